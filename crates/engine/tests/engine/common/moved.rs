//! First-order propagation of rounding errors in the f64 definition: its numerical derivative along random roundings.
//! Invariant: the same for every layer kind; what a layer magnifies is found and not assumed.

use super::Random;
use lwflow_model::{ContextNetworkSpec, Flow};

/// What roundings of all parameters and inputs change in the f64 definition, in units of f32 epsilon: how far first-order
/// propagation carries an error, through splines as through anything else. The largest of a few random draws.
#[derive(Default)]
pub struct Moved {
    pub z: Vec<f64>,
    pub log_det: Vec<f64>,
    pub x: Vec<f64>,
    pub log_prob: Vec<f64>,
    pub params: Vec<f64>,
    pub context: Vec<f64>,
}

impl Moved {
    const DRAWS: usize = 3;

    /// Of log_prob, gradients, and of `theta` as the argument of both maps.
    pub fn new(
        flow: &Flow<f64>,
        theta: &[f64],
        context: &[f64],
        weights: &[f64],
        lv: Option<&[f64]>,
    ) -> Self {
        let mut random = Random::new(17);
        let epsilon = f64::from(f32::EPSILON);
        let spec = flow.spec();
        // The number of elements of a set is a whole number, and exact.
        let context_moves =
            !matches!(&spec.context_network, Some(ContextNetworkSpec::Set(set)) if set.counted);
        let mut out = Self::default();
        let exact = Self::values(flow, theta, context, weights, lv);
        for _ in 0..Self::DRAWS {
            let (mut flow, mut theta, mut context) = (flow.clone(), theta.to_vec(), context.to_vec());
            flow.params_mut().iter_mut().for_each(|p| *p *= 1.0 + epsilon * random.value());
            for row in theta.chunks_exact_mut(spec.dim) {
                let largest = row.iter().fold(1.0_f64, |a, v| a.max(v.abs()));
                row.iter_mut().for_each(|v| *v += epsilon * largest * random.value());
            }
            if context_moves {
                context.iter_mut().for_each(|v| *v *= 1.0 + epsilon * random.value());
            }
            let moved = Self::values(&flow, &theta, &context, weights, lv);
            out.widen(&moved, &exact, epsilon);
        }
        out
    }

    fn values(flow: &Flow<f64>, theta: &[f64], context: &[f64], weights: &[f64], lv: Option<&[f64]>) -> Self {
        let (z, log_det) = flow.inverse_and_log_det(theta, context).unwrap();
        let (x, _) = flow.forward_and_log_det(theta, context).unwrap();
        let gradient = flow.gradient(theta, context, weights, lv).unwrap();
        Self {
            z,
            log_det,
            x,
            log_prob: gradient.log_prob,
            params: gradient.params,
            context: gradient.context,
        }
    }

    fn widen(&mut self, moved: &Self, exact: &Self, epsilon: f64) {
        let of = |out: &mut Vec<f64>, moved: &[f64], exact: &[f64]| {
            out.resize(exact.len(), 0.0);
            for ((out, moved), exact) in out.iter_mut().zip(moved).zip(exact) {
                let change = (moved - exact).abs() / epsilon;
                *out = out.max(if change.is_finite() { change } else { 0.0 });
            }
        };
        of(&mut self.z, &moved.z, &exact.z);
        of(&mut self.log_det, &moved.log_det, &exact.log_det);
        of(&mut self.x, &moved.x, &exact.x);
        of(&mut self.log_prob, &moved.log_prob, &exact.log_prob);
        of(&mut self.params, &moved.params, &exact.params);
        of(&mut self.context, &moved.context, &exact.context);
    }
}
