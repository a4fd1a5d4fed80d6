//! An MLP, one input at a time, and its backward pass: the conditioner of a coupling layer, and the parts of a context
//! network. The activation stands between linear maps, not after the last. Invariant: what backward needs is on the tape; parameters are read from the flat vector.

use crate::{Activation, LinearBlock, Real};

/// What the MLP computed for one input, kept for its backward pass.
pub(crate) struct Tape<T> {
    /// Input of each linear map (the last hidden activation for the last).
    inputs: Vec<Vec<T>>,
    /// Output of each linear map before the activation.
    outputs: Vec<Vec<T>>,
}

impl<T> Tape<T> {
    /// Output of the last linear map.
    pub fn output(&self) -> &[T] {
        self.outputs.last().map_or(&[], |last| last)
    }
}

/// An MLP with its slice of the layout.
pub(crate) struct Mlp<'a, T> {
    pub activation: Activation,
    pub linears: &'a [LinearBlock],
    pub params: &'a [T],
}

impl<T: Real> Mlp<'_, T> {
    /// Runs it on `input`, as long as the first linear map asks.
    pub fn run(&self, mut input: Vec<T>) -> Tape<T> {
        let mut tape = Tape { inputs: Vec::new(), outputs: Vec::new() };
        for (k, linear) in self.linears.iter().enumerate() {
            let output: Vec<T> = (0..linear.n_out)
                .map(|o| {
                    let row = &self.params[linear.weight + o * linear.n_in..][..linear.n_in];
                    let mut sum = self.params[linear.bias + o];
                    for (&w, &v) in row.iter().zip(&input) {
                        sum += w * v;
                    }
                    sum
                })
                .collect();
            let next = if k + 1 < self.linears.len() {
                output.iter().map(|&v| self.activation.value(v)).collect()
            } else {
                Vec::new()
            };
            tape.inputs.push(std::mem::replace(&mut input, next));
            tape.outputs.push(output);
        }
        tape
    }

    /// From the output's gradient `delta`: adds the parameters' gradient to `grad`, returns that of the input.
    pub fn backward(&self, tape: &Tape<T>, mut delta: Vec<T>, grad: &mut [T]) -> Vec<T> {
        for (k, linear) in self.linears.iter().enumerate().rev() {
            if k + 1 < self.linears.len() {
                for (d, &z) in delta.iter_mut().zip(&tape.outputs[k]) {
                    *d = *d * self.activation.derivative(z);
                }
            }
            let mut below = vec![T::zero(); linear.n_in];
            for (o, &d) in delta.iter().enumerate() {
                grad[linear.bias + o] += d;
                for i in 0..linear.n_in {
                    let w = linear.weight + o * linear.n_in + i;
                    grad[w] += d * tape.inputs[k][i];
                    below[i] += d * self.params[w];
                }
            }
            delta = below;
        }
        delta
    }
}
