//! The affine coupling layer and its conditioner, one sample at a time: the definition, not a fast implementation.
//! Formulas and signs are those of RealNVP (Dinh et al. 2017) with a bounded log scale.

use crate::{Activation, AffineCouplingSpec, LinearBlock, Real};

impl Activation {
    fn value<T: Real>(self, x: T) -> T {
        match self {
            Activation::Relu => {
                if x > T::zero() {
                    x
                } else {
                    T::zero()
                }
            }
            Activation::Silu => x / (T::one() + (-x).exp()),
            Activation::Tanh => x.tanh(),
        }
    }

    fn derivative<T: Real>(self, x: T) -> T {
        match self {
            Activation::Relu => {
                if x > T::zero() {
                    T::one()
                } else {
                    T::zero()
                }
            }
            Activation::Silu => {
                let sigmoid = T::one() / (T::one() + (-x).exp());
                sigmoid * (T::one() + x * (T::one() - sigmoid))
            }
            Activation::Tanh => {
                let y = x.tanh();
                T::one() - y * y
            }
        }
    }
}

/// What the conditioner computed for one sample, kept for its backward pass.
struct Tape<T> {
    /// Input of each linear map (the last hidden activation for the last).
    inputs: Vec<Vec<T>>,
    /// Output of each linear map before the activation.
    outputs: Vec<Vec<T>>,
}

/// One coupling layer with its slice of the layout.
pub(crate) struct Coupling<'a, T> {
    pub spec: &'a AffineCouplingSpec,
    pub linears: &'a [LinearBlock],
    pub params: &'a [T],
}

impl<T: Real> Coupling<'_, T> {
    fn conditioner(&self, x: &[T], context: &[T]) -> Tape<T> {
        let mut input: Vec<T> =
            self.spec.identity.iter().map(|&j| x[j]).chain(context.iter().copied()).collect();
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
                output.iter().map(|&v| self.spec.activation.value(v)).collect()
            } else {
                Vec::new()
            };
            tape.inputs.push(std::mem::replace(&mut input, next));
            tape.outputs.push(output);
        }
        tape
    }

    /// Adds the parameters' gradient to `grad`; returns the gradient of the conditioner's input.
    fn conditioner_backward(&self, tape: &Tape<T>, mut delta: Vec<T>, grad: &mut [T]) -> Vec<T> {
        for (k, linear) in self.linears.iter().enumerate().rev() {
            if k + 1 < self.linears.len() {
                for (d, &z) in delta.iter_mut().zip(&tape.outputs[k]) {
                    *d = *d * self.spec.activation.derivative(z);
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

    /// Bounded log scale s and its derivative with respect to s_raw, for transformed coordinate `b`.
    fn log_scale(&self, out: &[T], b: usize) -> (T, T) {
        let s_max = T::from_f64(self.spec.s_max);
        let t = (out[b] / s_max).tanh();
        (s_max * t, T::one() - t * t)
    }

    /// Base to data, in place; returns log_det.
    pub fn forward(&self, x: &mut [T], context: &[T]) -> T {
        let tape = self.conditioner(x, context);
        let out = &tape.outputs[self.linears.len() - 1];
        let mut log_det = T::zero();
        for (b, &j) in self.spec.transformed.iter().enumerate() {
            let (s, _) = self.log_scale(out, b);
            x[j] = x[j] * s.exp() + out[self.spec.transformed.len() + b];
            log_det += s;
        }
        log_det
    }

    /// Data to base, in place; returns log_det of the forward map.
    pub fn inverse(&self, x: &mut [T], context: &[T]) -> T {
        let tape = self.conditioner(x, context);
        let out = &tape.outputs[self.linears.len() - 1];
        let mut log_det = T::zero();
        for (b, &j) in self.spec.transformed.iter().enumerate() {
            let (s, _) = self.log_scale(out, b);
            x[j] = (x[j] - out[self.spec.transformed.len() + b]) * (-s).exp();
            log_det += s;
        }
        log_det
    }

    /// Gradient of `-w log q` through `inverse`. On entry `x` and `g` are the layer's base-side value u and its
    /// gradient; on return the data-side value v, restored, and its gradient. Adds to `grad` and `grad_context`.
    pub fn backward(
        &self,
        x: &mut [T],
        g: &mut [T],
        w: T,
        context: &[T],
        grad: &mut [T],
        grad_context: &mut [T],
    ) {
        let tape = self.conditioner(x, context);
        let out = &tape.outputs[self.linears.len() - 1];
        let n_b = self.spec.transformed.len();
        let mut delta = vec![T::zero(); 2 * n_b];
        for (b, &j) in self.spec.transformed.iter().enumerate() {
            let (s, ds) = self.log_scale(out, b);
            let g_v = g[j] * (-s).exp();
            delta[b] = (w - g[j] * x[j]) * ds;
            delta[n_b + b] = -g_v;
            g[j] = g_v;
            x[j] = x[j] * s.exp() + out[n_b + b];
        }
        let below = self.conditioner_backward(&tape, delta, grad);
        for (&j, &d) in self.spec.identity.iter().zip(&below) {
            g[j] += d;
        }
        for (g, &d) in grad_context.iter_mut().zip(&below[self.spec.identity.len()..]) {
            *g += d;
        }
    }
}
