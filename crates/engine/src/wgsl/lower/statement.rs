//! Statements: control flow, stores and calls. Invariant: values that name variables are copied before anything that may
//! write them, so that an expression keeps the value it had where it was emitted.

use naga::{Expression, Handle, Span, Statement, SwitchValue};

use super::super::bytecode::{Case, Node};
use super::body::Body;
use super::{Refused, Value};

/// Calls `f` with every expression that statements ask for.
pub(super) fn operands(block: &naga::Block, f: &mut impl FnMut(Handle<Expression>)) {
    use Statement as S;
    for statement in block {
        match statement {
            S::Block(inner) => operands(inner, f),
            S::If { condition, accept, reject } => {
                f(*condition);
                operands(accept, f);
                operands(reject, f);
            }
            S::Switch { selector, cases } => {
                f(*selector);
                cases.iter().for_each(|case| operands(&case.body, f));
            }
            S::Loop { body, continuing, break_if } => {
                operands(body, f);
                operands(continuing, f);
                break_if.iter().for_each(|h| f(*h));
            }
            S::Return { value } => value.iter().for_each(|h| f(*h)),
            S::Store { pointer, value } => [*pointer, *value].into_iter().for_each(&mut *f),
            S::Call { arguments, .. } => arguments.iter().for_each(|h| f(*h)),
            _ => {}
        }
    }
}

impl<'m> Body<'_, 'm> {
    /// A block whose values end with it.
    fn scope(&mut self, block: &'m naga::Block) -> Result<Vec<Node>, Refused> {
        let mark = self.mark();
        let mut nodes = Vec::new();
        self.block(block, &mut nodes)?;
        self.flush(&mut nodes);
        self.release(mark);
        Ok(nodes)
    }

    pub fn block(&mut self, block: &'m naga::Block, nodes: &mut Vec<Node>) -> Result<(), Refused> {
        for (statement, span) in block.span_iter() {
            self.statement(statement, *span, nodes)?;
        }
        Ok(())
    }

    pub fn statement(
        &mut self,
        statement: &'m Statement,
        span: Span,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Refused> {
        use Statement as S;
        match statement {
            S::Emit(range) => {
                for handle in range.clone() {
                    self.emit(handle)?;
                }
                Ok(())
            }
            S::Block(inner) => {
                let mark = self.mark();
                self.block(inner, nodes)?;
                self.release(mark);
                Ok(())
            }
            S::If { condition, accept, reject } => {
                let condition = self.control(*condition, nodes)?;
                let accept = self.scope(accept)?;
                let reject = self.scope(reject)?;
                nodes.push(Node::If { condition, accept, reject });
                Ok(())
            }
            S::Switch { selector, cases } => self.switch(*selector, cases, nodes),
            S::Loop { body, continuing, break_if } => {
                self.protect(None);
                self.flush(nodes);
                let mark = self.mark();
                let mut body_nodes = Vec::new();
                self.block(body, &mut body_nodes)?;
                // What the body leaves behind may be asked for in the continuing part, with its lanes back together.
                self.protect(None);
                self.flush(&mut body_nodes);
                let mut continuing_nodes = Vec::new();
                self.block(continuing, &mut continuing_nodes)?;
                let break_if = match break_if {
                    Some(handle) => {
                        let at = self.integer_value(*handle)?;
                        self.spend(*handle);
                        Some(at)
                    }
                    None => None,
                };
                self.flush(&mut continuing_nodes);
                self.release(mark);
                let user = self.l.spliced.user().start;
                let at = span.to_range().map_or(0, |r| r.start.saturating_sub(user));
                nodes.push(Node::Loop { body: body_nodes, continuing: continuing_nodes, break_if, at });
                Ok(())
            }
            S::Break => self.jump(Node::Break, nodes),
            S::Continue => self.jump(Node::Continue, nodes),
            S::Return { value } => {
                if let Some(value) = value {
                    let moved = self.is_moved(*value);
                    let value = self.operand(*value)?;
                    let place = super::body::Place { options: vec![self.result.clone()], index: None };
                    self.store(&place, &value, moved);
                }
                self.jump(Node::Return, nodes)
            }
            S::Store { pointer, value } => {
                let place = self.place(*pointer)?;
                self.spend(*pointer);
                let moved = self.is_moved(*value);
                let value = self.operand(*value)?;
                self.store(&place, &value, moved);
                Ok(())
            }
            S::Call { function, arguments, result } => self.call(*function, arguments, *result, span, nodes),
            other => {
                let what = match other {
                    S::Kill => "discard",
                    S::ControlBarrier(_) | S::MemoryBarrier(_) => "a barrier",
                    S::Atomic { .. } => "an atomic operation",
                    S::ImageStore { .. } | S::ImageAtomic { .. } => "a texture",
                    S::WorkGroupUniformLoad { .. } => "workgroupUniformLoad",
                    S::SubgroupBallot { .. }
                    | S::SubgroupGather { .. }
                    | S::SubgroupCollectiveOperation { .. } => "a subgroup operation",
                    _ => "this statement",
                };
                Err((span, format!("{what} is not supported in a likelihood")))
            }
        }
    }

    /// Ends the run before a branch. Returns the register that decides.
    fn control(&mut self, decides: Handle<Expression>, nodes: &mut Vec<Node>) -> Result<u32, Refused> {
        let at = self.integer_value(decides)?;
        self.spend(decides);
        self.protect(None);
        self.flush(nodes);
        Ok(at)
    }

    fn jump(&mut self, node: Node, nodes: &mut Vec<Node>) -> Result<(), Refused> {
        self.flush(nodes);
        nodes.push(node);
        Ok(())
    }

    fn switch(
        &mut self,
        selector: Handle<Expression>,
        cases: &'m [naga::SwitchCase],
        nodes: &mut Vec<Node>,
    ) -> Result<(), Refused> {
        let span = self.span(selector);
        // The selector is looked at once per case, so it may not be a variable that a case changes.
        let value = self.operand(selector)?;
        let value = self.copied(&value);
        let [super::Reg::I(selector)] = *value.as_slice() else {
            return Err((span, "this selector is not supported in a likelihood".into()));
        };
        self.protect(None);
        self.flush(nodes);
        let (mut found, mut default) = (Vec::new(), None);
        let (mut values, mut with_default) = (Vec::new(), false);
        for case in cases {
            match case.value {
                SwitchValue::I32(v) => values.push(v.cast_unsigned()),
                SwitchValue::U32(v) => values.push(v),
                SwitchValue::Default => with_default = true,
            }
            if case.fall_through {
                if !case.body.is_empty() {
                    return Err((span, "a case that falls through is not supported in a likelihood".into()));
                }
                continue;
            }
            let body = self.scope(&case.body)?;
            let values = std::mem::take(&mut values);
            // Values that share the default's body need no case of their own.
            if std::mem::take(&mut with_default) {
                default = Some(body);
            } else {
                found.push(Case { values, body });
            }
        }
        nodes.push(Node::Switch { selector, cases: found, default: default.unwrap_or_default() });
        Ok(())
    }

    /// Whether the value is a result that only this statement asks for: its registers may be taken over.
    fn is_moved(&self, handle: Handle<Expression>) -> bool {
        use Expression as E;
        let computed = matches!(
            self.function.expressions[handle],
            E::Binary { .. } | E::Unary { .. } | E::Math { .. } | E::Select { .. }
        );
        let value = self.values[handle.index()].as_deref();
        let own = value.is_some_and(|v| {
            v.iter().enumerate().all(|(i, reg)| !self.l.variables.contains(reg) && !v[..i].contains(reg))
        });
        computed && own && self.total[handle.index()] == 1 && !self.is_shared(value)
    }

    /// Whether a register is a constant, which many expressions share.
    fn is_shared(&self, value: Option<&[super::Reg]>) -> bool {
        value.is_some_and(|v| v.iter().any(|reg| self.l.is_constant(*reg)))
    }

    fn call(
        &mut self,
        function: Handle<naga::Function>,
        arguments: &[Handle<Expression>],
        result: Option<Handle<Expression>>,
        span: Span,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Refused> {
        if let Some(name) = self.l.native(function) {
            let mut values = Vec::new();
            for argument in arguments {
                values.push(self.operand(*argument)?);
            }
            let value = self.native(name, &values);
            let value = value.ok_or_else(|| (span, format!("this call of {name} is not supported")))?;
            if let Some(result) = result {
                self.set(result, value);
            }
            return Ok(());
        }
        if self.l.is_straight(function) {
            let values = self.inline_arguments(arguments)?;
            let value = self.inlined(function, &values)?;
            if let Some(result) = result {
                self.set(result, value);
            }
            return Ok(());
        }
        // The callee's operations must not land inside this function's run.
        self.flush(nodes);
        let callee = self.l.function(function)?;
        self.restart();
        let formal = self.l.code.functions[callee].arguments.clone();
        let mut pointees: Vec<(super::body::Place, Value)> = Vec::new();
        for (argument, to) in arguments.iter().zip(&formal) {
            let types = &self.l.module.types;
            if self.info[*argument].ty.inner_with(types).pointer_space().is_some() {
                let place = self.whole_place(*argument)?;
                let value = self.load(&place);
                self.l.copy(to, &value);
                pointees.push((place, to.clone()));
            } else {
                let value = self.operand(*argument)?;
                self.l.copy(to, &value);
            }
        }
        self.protect(None);
        self.flush(nodes);
        nodes.push(Node::Call(callee));
        for (place, value) in pointees {
            self.store(&place, &value, false);
        }
        if let Some(result) = result {
            let value = self.l.code.functions[callee].result.clone();
            self.set(result, value);
        }
        Ok(())
    }
}
