//! Calls of short functions without control flow, whose operations go where the call is: no copies of arguments and result.
//! Invariant: such a function writes nothing but its own variables, so that values of the caller stay what they are.

use naga::{AddressSpace, Expression, Function, Handle, Statement, TypeInner};

use super::body::Body;
use super::{Lowering, Refused, Value};

impl Lowering<'_> {
    /// Whether a function can be lowered at its calls.
    pub fn is_straight(&self, handle: Handle<Function>) -> bool {
        let function = &self.module.functions[handle];
        let by_value = function
            .arguments
            .iter()
            .all(|a| !matches!(self.module.types[a.ty].inner, TypeInner::Pointer { .. }));
        let n = function.body.len();
        by_value
            && function.result.is_some()
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
