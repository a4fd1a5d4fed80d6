//! Calls of short functions without control flow, whose operations go where the call is: no copies of arguments and result.
//! Invariant: such a function writes nothing but its own variables and those that it was handed pointers to; values of the
//! caller that name the latter are copied before.

use naga::{AddressSpace, Expression, Function, Handle, Statement};

use super::body::Body;
use super::{Lowering, Refused, Value};

impl Lowering<'_> {
    /// Whether a function can be lowered at its calls.
    pub fn is_straight(&self, handle: Handle<Function>) -> bool {
        let function = &self.module.functions[handle];
        let n = function.body.len();
        function.result.is_some()
            && function.body.iter().enumerate().all(|(i, statement)| match statement {
                Statement::Emit(_) => true,
                Statement::Return { value } => i + 1 == n && value.is_some(),
                Statement::Store { pointer, .. } => {
                    let inner = self.info[handle][*pointer].ty.inner_with(&self.module.types);
                    inner.pointer_space() == Some(AddressSpace::Function)
                }
                Statement::Call { function, .. } => {
                    self.native(*function).is_some() || self.is_straight(*function)
                }
                _ => false,
            })
    }
}

impl<'m> Body<'_, 'm> {
    /// The arguments of a straight function: values, and the registers of variables for pointers to them.
    pub fn inline_arguments(&mut self, arguments: &[Handle<Expression>]) -> Result<Vec<Value>, Refused> {
        let (mut values, mut is_pointer, mut pointees) = (Vec::new(), Vec::new(), Value::new());
        for argument in arguments {
            let types = &self.l.module.types;
            is_pointer.push(self.info[*argument].ty.inner_with(types).pointer_space().is_some());
            if is_pointer.last() == Some(&true) {
                let place = self.whole_place(*argument)?;
                let variable = self.load(&place);
                pointees.extend(&variable);
                values.push(variable);
            } else {
                values.push(self.operand(*argument)?);
            }
        }
        if pointees.is_empty() {
            return Ok(values);
        }
        self.protect(Some(&pointees));
        for (value, is_pointer) in values.iter_mut().zip(is_pointer) {
            if !is_pointer && value.iter().any(|reg| pointees.contains(reg)) {
                *value = self.copied(value);
            }
        }
        Ok(values)
    }

    /// The place of a pointer to a whole variable, which is all that can be handed to a function.
    pub fn whole_place(&mut self, pointer: Handle<Expression>) -> Result<super::body::Place, Refused> {
        let is_whole = matches!(
            self.function.expressions[pointer],
            Expression::LocalVariable(_) | Expression::GlobalVariable(_) | Expression::FunctionArgument(_)
        );
        if !is_whole {
            return self.refuse(pointer, "a pointer to a part of a variable as an argument");
        }
        self.place(pointer)
    }

    /// The result of a straight function of these values.
    pub fn inlined(&mut self, handle: Handle<Function>, arguments: &[Value]) -> Result<Value, Refused> {
        let mut inner = Body::new(self.l, handle, arguments, &Value::new())?;
        inner.lend(&mut self.temporaries, &mut self.free);
        let result = inner.straight();
        inner.lend(&mut self.temporaries, &mut self.free);
        result
    }

    /// Exchanges the registers in use and those that are free with the caller's.
    fn lend(&mut self, temporaries: &mut Vec<super::Reg>, free: &mut [Vec<super::Reg>; 2]) {
        std::mem::swap(&mut self.temporaries, temporaries);
        std::mem::swap(&mut self.free, free);
    }

    fn straight(&mut self) -> Result<Value, Refused> {
        self.begin_locals()?;
        let function: &'m Function = self.function;
        let mut nodes = Vec::new();
        for (statement, span) in function.body.span_iter() {
            if let Statement::Return { value: Some(value) } = statement {
                return self.operand(*value);
            }
            self.statement(statement, *span, &mut nodes)?;
        }
        Ok(Value::new())
    }

    /// First values of the function's variables.
    pub fn begin_locals(&mut self) -> Result<(), Refused> {
        for (handle, variable) in self.function.local_variables.iter() {
            let span = self.function.local_variables.get_span(handle);
            let init: Option<Handle<Expression>> = variable.init;
            let init = match init {
                Some(init) => self.value(init)?,
                None => self.l.zero(variable.ty, span)?,
            };
            let local = self.locals[handle.index()].clone();
            self.l.copy(&local, &init);
        }
        Ok(())
    }
}
