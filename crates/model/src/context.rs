//! The context network, one row of the context at a time: features, and their gradients. The definition, not a fast
//! implementation. Invariant: rows were checked; a set's absent elements are neither read nor given a gradient.

use crate::mlp::{Mlp, Tape};
use crate::{ContextNetworkSpec, ParamLayout, Real};

/// A context network with its parameters in the flat vector.
pub(crate) struct ContextNetwork<'a, T> {
    pub spec: &'a ContextNetworkSpec,
    pub layout: &'a ParamLayout,
    pub params: &'a [T],
}

/// What the network computed for one row.
pub(crate) struct NetworkTape<T> {
    /// Of each element present.
    phi: Vec<Tape<T>>,
    rho: Tape<T>,
}

impl<T> NetworkTape<T> {
    /// The features, `[F]`.
    pub fn features(&self) -> &[T] {
        self.rho.output()
    }
}

impl<T: Real> ContextNetwork<'_, T> {
    fn phi(&self) -> Mlp<'_, T> {
        Mlp { activation: self.spec.activation(), linears: &self.layout.phi, params: self.params }
    }

    fn rho(&self) -> Mlp<'_, T> {
        Mlp { linears: &self.layout.rho, ..self.phi() }
    }

    /// Runs it on a row, `[C]`.
    pub fn run(&self, row: &[T]) -> NetworkTape<T> {
        let set = match self.spec {
            ContextNetworkSpec::Mlp(_) => {
                return NetworkTape { phi: Vec::new(), rho: self.rho().run(row.to_vec()) };
            }
            ContextNetworkSpec::Set(set) => set,
        };
        let elements = set.elements(row).unwrap_or_default().chunks_exact(set.element);
        let phi: Vec<Tape<T>> = elements.map(|element| self.phi().run(element.to_vec())).collect();
        let mut pooled = vec![T::zero(); set.n_pooled()];
        for tape in &phi {
            for (sum, &value) in pooled.iter_mut().zip(tape.output()) {
                *sum += value;
            }
        }
        let n = T::from_f64(phi.len().max(1) as f64);
        let mut input: Vec<T> = pooled.into_iter().map(|sum| sum / n).collect();
        input.push(T::from_f64((phi.len() as f64).ln_1p()));
        NetworkTape { phi, rho: self.rho().run(input) }
    }

    /// From the gradient of the features of `row`, `[F]`: adds that of the parameters to `grad` and that of the row to
    /// `grad_row`, `[C]`.
    pub fn backward(&self, row: &[T], delta: Vec<T>, grad: &mut [T], grad_row: &mut [T]) {
        let tape = self.run(row);
        let below = self.rho().backward(&tape.rho, delta, grad);
        let ContextNetworkSpec::Set(set) = self.spec else {
            add(grad_row, &below);
            return;
        };
        let n = T::from_f64(tape.phi.len().max(1) as f64);
        let of_element: Vec<T> = below[..set.n_pooled()].iter().map(|&g| g / n).collect();
        let to = grad_row[set.first()..].chunks_exact_mut(set.element);
        for (tape, to) in tape.phi.iter().zip(to) {
            add(to, &self.phi().backward(tape, of_element.clone(), grad));
        }
    }
}

fn add<T: Real>(to: &mut [T], values: &[T]) {
    for (to, &value) in to.iter_mut().zip(values) {
        *to += value;
    }
}
