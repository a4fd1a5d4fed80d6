//! One function's lowering: which value every expression has, and which registers are free again.
//! Invariant: a value that names a variable's registers (a load that was not copied) is copied before that variable may
//! change, as long as something still asks for it.

use naga::{Expression, Handle, Span};

use super::super::bytecode::{Node, Op, Reg, Table};
use super::{Kind, Lowering, Refused, Value};

/// Where a pointer points: one of `options`, chosen by the integer register `index`.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub options: Vec<Value>,
    pub index: Option<u32>,
}

pub(super) struct Body<'l, 'm> {
    pub l: &'l mut Lowering<'m>,
    pub function: &'m naga::Function,
    pub info: &'m naga::valid::FunctionInfo,
    pub values: Vec<Option<Value>>,
    pub places: Vec<Option<Place>>,
    /// How often an expression is asked for in all, and how often from here on.
    pub total: Vec<u32>,
    pub left: Vec<u32>,
    pub arguments: Vec<Value>,
    pub result: Value,
    pub locals: Vec<Value>,
    /// Expressions whose value names registers of variables.
    aliased: Vec<usize>,
    pub temporaries: Vec<Reg>,
    pub free: [Vec<Reg>; 2],
    run: usize,
}

impl<'l, 'm> Body<'l, 'm> {
    pub fn new(
        l: &'l mut Lowering<'m>,
        handle: Handle<naga::Function>,
        arguments: &[Value],
        result: &Value,
    ) -> Result<Self, Refused> {
        let function = &l.module.functions[handle];
        let info = &l.info[handle];
        let mut locals = Vec::new();
        for (local, variable) in function.local_variables.iter() {
            let span = function.local_variables.get_span(local);
            let value = l.fresh_of(variable.ty, span)?;
            l.variables.extend(&value);
            locals.push(value);
        }
        let n = function.expressions.len();
        let mut total = vec![0; n];
        let mut count = |h: Handle<Expression>| total[h.index()] += 1;
        for (_, expression) in function.expressions.iter() {
            super::expression::operands(expression, &mut count);
        }
        super::statement::operands(&function.body, &mut count);
        Ok(Self {
            l,
            function,
            info,
            values: vec![None; n],
            places: vec![None; n],
            left: total.clone(),
            total,
            arguments: arguments.to_vec(),
            result: result.clone(),
            locals,
            aliased: Vec::new(),
            temporaries: Vec::new(),
            free: [Vec::new(), Vec::new()],
            run: 0,
        })
    }

    pub fn lower(mut self) -> Result<Vec<Node>, Refused> {
        // Functions that this one calls are lowered where they are called, behind its own operations.
        let mut nodes = Vec::new();
        self.run = self.l.code.ops.len();
        self.begin_locals()?;
        let function = self.function;
        self.block(&function.body, &mut nodes)?;
        self.flush(&mut nodes);
        Ok(nodes)
    }

    pub fn op(&mut self, op: Op) {
        self.l.code.ops.push(op);
    }

    /// Ends the run of operations before a node of another kind.
    pub fn flush(&mut self, nodes: &mut Vec<Node>) {
        let end = self.l.code.ops.len();
        if end > self.run {
            nodes.push(Node::Run(self.run, end));
        }
        self.run = end;
    }

    /// Begins a new run, behind operations of others.
    pub fn restart(&mut self) {
        self.run = self.l.code.ops.len();
    }

    pub fn span(&self, handle: Handle<Expression>) -> Span {
        self.function.expressions.get_span(handle)
    }

    pub fn refuse<T>(&self, handle: Handle<Expression>, what: &str) -> Result<T, Refused> {
        Err((self.span(handle), format!("{what} is not supported in a likelihood")))
    }

    /// A register for a value that is written once.
    pub fn temporary(&mut self, kind: Kind) -> Reg {
        let reg = self.free[kind as usize].pop().unwrap_or_else(|| self.l.fresh(kind));
        self.temporaries.push(reg);
        reg
    }

    pub fn f(&mut self) -> u32 {
        match self.temporary(Kind::F) {
            Reg::F(at) | Reg::I(at) => at,
        }
    }

    pub fn i(&mut self) -> u32 {
        match self.temporary(Kind::I) {
            Reg::F(at) | Reg::I(at) => at,
        }
    }

    pub fn mark(&self) -> usize {
        self.temporaries.len()
    }

    /// Frees what was taken since the mark: the end of a block, behind which nothing asks for its values.
    pub fn release(&mut self, mark: usize) {
        for reg in self.temporaries.drain(mark..) {
            let kind = if matches!(reg, Reg::F(_)) { Kind::F } else { Kind::I };
            self.free[kind as usize].push(reg);
        }
    }

    /// Remembers a value, and whether it names variables.
    pub fn set(&mut self, handle: Handle<Expression>, value: Value) {
        if value.iter().any(|reg| self.l.variables.contains(reg)) {
            self.aliased.push(handle.index());
        }
        self.values[handle.index()] = Some(value);
    }

    /// Notes that `handle` was asked for once.
    pub fn spend(&mut self, handle: Handle<Expression>) {
        let left = &mut self.left[handle.index()];
        *left = left.saturating_sub(1);
    }

    /// Copies values that name registers of `touched` (of any variable, if `None`) and are still asked for.
    pub fn protect(&mut self, touched: Option<&[Reg]>) {
        for handle in std::mem::take(&mut self.aliased) {
            let Some(mut value) = self.values[handle].take() else { continue };
            let mut still = false;
            if self.left[handle] > 0 {
                let mut copied: Vec<(Reg, Reg)> = Vec::new();
                for reg in &mut value {
                    if !self.l.variables.contains(reg) {
                        continue;
                    }
                    if touched.is_some_and(|t| !t.contains(reg)) {
                        still = true;
                        continue;
                    }
                    let known = copied.iter().find(|(from, _)| from == reg).map(|(_, to)| *to);
                    let to = known.unwrap_or_else(|| {
                        let to = self.temporary(if matches!(reg, Reg::F(_)) { Kind::F } else { Kind::I });
                        self.l.copy(&[to], &[*reg]);
                        copied.push((*reg, to));
                        to
                    });
                    *reg = to;
                }
            }
            self.values[handle] = Some(value);
            if still {
                self.aliased.push(handle);
            }
        }
    }

    /// A copy in registers of its own.
    pub fn copied(&mut self, value: &[Reg]) -> Value {
        let kinds = value.iter().map(|r| if matches!(r, Reg::F(_)) { Kind::F } else { Kind::I });
        let kinds: Vec<Kind> = kinds.collect();
        let to: Value = kinds.into_iter().map(|kind| self.temporary(kind)).collect();
        self.l.copy(&to, value);
        to
    }

    /// Component by component, the option that `index` chooses.
    pub fn gather(&mut self, options: &[Value], index: u32) -> Value {
        let len = options.first().map_or(0, Vec::len);
        let mut out = Value::with_capacity(len);
        for c in 0..len {
            let table = self.table(options, c);
            out.push(match options[0][c] {
                Reg::F(_) => {
                    let d = self.f();
                    self.op(Op::GatherF(d, table, index));
                    Reg::F(d)
                }
                Reg::I(_) => {
                    let d = self.i();
                    self.op(Op::GatherI(d, table, index));
                    Reg::I(d)
                }
            });
        }
        out
    }

    pub fn table(&mut self, options: &[Value], component: usize) -> Table {
        let begin = self.l.code.tables.len() as u32;
        self.l.code.tables.extend(options.iter().map(|option| match option[component] {
            Reg::F(at) | Reg::I(at) => at,
        }));
        Table { begin, len: options.len() as u32 }
    }
}
