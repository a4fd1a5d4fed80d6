//! The flow, points and weights of a like-for-like comparison, the definition's results for them, and the comparison of
//! results. Invariant: every contestant starts from the numbers of one `Problem`, and is judged by one `compare`.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use lwflow_host::adam::{Adam, AdamSettings};
use lwflow_host::rng::{normal_pair, stream};
use lwflow_model::{BaseSpec, Flow, FlowSpec, LayerSpec, ParamLayout};
use npyz::npz::NpzWriter;
use npyz::{AutoSerialize, WriterBuilder as _};
use serde::Deserialize;
use zip::CompressionMethod;
use zip::write::FileOptions;

use crate::Shape;

/// Samples of the comparison with the definition.
const N_CHECK: usize = 512;
/// Steps of Adam after which the losses are compared once more, and their learning rate.
pub const CHECK_STEPS: (usize, f64) = (5, 1e-3);

/// A flow with parameters that leave no gradient zero, and the points it runs on.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The specification.
    pub spec: FlowSpec,
    /// The flat parameter vector.
    pub params: Vec<f32>,
    /// Points `[n, D]`, near a standard normal times 1.5; also the base draws of the sampling map.
    pub x: Vec<f32>,
    /// Positive weights `[n]`, not normalised.
    pub weights: Vec<f32>,
    n: usize,
}

/// What is compared: of the first points of a problem, with their weights normalised.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Outcome {
    /// `-sum w log q`.
    pub loss: f64,
    /// The loss after [`CHECK_STEPS`].
    pub loss_after: f64,
    /// log q `[n]`.
    pub log_prob: Vec<f64>,
    /// Gradient in the order of [`ParamLayout`].
    pub grad: Vec<f64>,
    /// The points as base draws, mapped to the data side, `[n, D]`.
    pub theta: Vec<f64>,
}

impl Problem {
    /// A problem of `n` points; the same for the same shape.
    ///
    /// # Errors
    /// If the shape describes no flow.
    pub fn new(shape: &Shape, n: usize) -> Result<Self> {
        let spec = shape.spec()?;
        let mut flow = Flow::<f32>::init(spec.clone(), 1)?;
        let layout = flow.layout().clone();
        let mut rng = stream(1, "bench", 0);
        let mut normal = || normal_pair(&mut rng).0 as f32;
        let params = flow.params_mut();
        for linears in &layout.layers {
            if let Some(last) = linears.last() {
                let scale = 0.5 / (last.n_in.max(1) as f32).sqrt();
                params[last.weight..last.bias + last.n_out].fill_with(|| scale * normal());
            }
        }
        for (block, scale) in [("base/logits", 0.3), ("base/means", 1.0), ("base/cholesky", 0.1)] {
            if let Some(block) = layout.block(block) {
                params[block.range()].fill_with(|| scale * normal());
            }
        }
        let params = params.to_vec();
        let x = (0..n * spec.dim).map(|_| 1.5 * normal()).collect();
        let weights = (0..n).map(|_| (0.5 * normal()).exp()).collect();
        Ok(Self { spec, params, x, weights, n })
    }

    /// The first `n` points, and their weights with sum one.
    #[must_use]
    pub fn batch(&self, n: usize) -> (&[f32], Vec<f32>) {
        let n = n.min(self.n);
        let sum: f64 = self.weights[..n].iter().map(|&w| f64::from(w)).sum();
        let weights = self.weights[..n].iter().map(|&w| (f64::from(w) / sum) as f32).collect();
        (&self.x[..n * self.spec.dim], weights)
    }

    /// The points of the comparison and their weights.
    #[must_use]
    pub fn check_batch(&self) -> (&[f32], Vec<f32>) {
        self.batch(N_CHECK)
    }

    /// What the f64 definition says.
    ///
    /// # Errors
    /// If the arrays do not fit the flow.
    pub fn truth(&self) -> Result<Outcome> {
        let (x, weights) = self.check_batch();
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| f64::from(v)).collect() };
        let (x, weights) = (wide(x), wide(&weights));
        let flow = Flow::<f64>::from_params(self.spec.clone(), wide(&self.params))?;
        let first = flow.gradient(&x, &[], &weights, None)?;
        let theta = flow.forward_and_log_det(&x, &[])?.0;
        let loss_after = self.loss_after(|params| {
            let flow = Flow::<f64>::from_params(self.spec.clone(), wide(params))?;
            let gradient = flow.gradient(&x, &[], &weights, None)?;
            Ok((gradient.loss, gradient.params.iter().map(|&g| g as f32).collect()))
        })?;
        Ok(Outcome { loss: first.loss, loss_after, log_prob: first.log_prob, grad: first.params, theta })
    }

    /// The loss after [`CHECK_STEPS`] of Adam on the losses and gradients of `at`.
    ///
    /// # Errors
    /// Those of `at`.
    pub fn loss_after(&self, mut at: impl FnMut(&[f32]) -> Result<(f64, Vec<f32>)>) -> Result<f64> {
        let mut params = self.params.clone();
        let mut adam = Adam::new(params.len(), AdamSettings::default())?;
        for _ in 0..CHECK_STEPS.0 {
            let (_, grad) = at(&params)?;
            adam.step(&mut params, &grad, CHECK_STEPS.1, None)?;
        }
        Ok(at(&params)?.0)
    }

    /// Writes everything to an .npz file for the contestants.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        let at = || format!("{}", path.display());
        let mut npz = NpzWriter::new(BufWriter::new(File::create(path).with_context(at)?));
        let BaseSpec::Mixture(mixture) = &self.spec.base else { anyhow::bail!("expected a mixture base") };
        let mut s_max = 0.0;
        for (l, layer) in self.spec.layers.iter().enumerate() {
            let LayerSpec::AffineCoupling(layer) = layer else { anyhow::bail!("expected affine couplings") };
            s_max = layer.s_max;
            for (name, set) in [("identity", &layer.identity), ("transformed", &layer.transformed)] {
                let set: Vec<i64> = set.iter().map(|&j| j as i64).collect();
                array(&mut npz, &format!("layer{l}/{name}"), &[set.len()], &set)?;
            }
        }
        for block in &ParamLayout::new(&self.spec).blocks {
            array(&mut npz, &block.name, &block.shape, &self.params[block.range()])?;
        }
        let n_check = N_CHECK.min(self.n);
        for (name, value) in
            [("dim", self.spec.dim), ("n_layers", self.spec.layers.len()), ("n_check", n_check)]
        {
            array(&mut npz, name, &[1], &[value as i64])?;
        }
        array(&mut npz, "s_max", &[1], &[s_max])?;
        array(&mut npz, "weight_floor", &[1], &[mixture.weight_floor])?;
        array(&mut npz, "x", &[self.n, self.spec.dim], &self.x)?;
        array(&mut npz, "weights", &[self.n], &self.weights)?;
        npz.zip_writer().finish()?.flush().with_context(at)
    }
}

/// Adds one array to an .npz file, stored and not packed.
pub(crate) fn array<T: AutoSerialize + Copy>(
    npz: &mut NpzWriter<impl Write + Seek>,
    name: &str,
    shape: &[usize],
    data: &[T],
) -> Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    let mut out = npz.array::<T>(name, options)?.default_dtype().shape(&shape).begin_nd()?;
    out.extend(data.iter().copied())?;
    Ok(out.finish()?)
}

/// How far an outcome is from the truth, by quantity: relative errors in the Euclidean norm, with what is borne.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The quantity: `loss`, or a tensor's gradient.
    pub what: String,
    /// Norm of the difference over the norm of the truth.
    pub error: f64,
    /// Largest error that f32 arithmetic explains.
    pub bound: f64,
}

impl Difference {
    /// Whether the error is within the bound.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.error <= self.bound
    }
}

/// Compares an outcome with the truth, the worst quantity first.
///
/// The bounds: f32 sums over some thousands of terms keep five digits. A unit of ReLU whose input lies within rounding
/// of zero may be on in one program and off in the other, which moves a gradient by about one part in the number of samples:
/// hence the wider bound of gradients. An error in a formula shows at the first digit.
#[must_use]
pub fn compare(layout: &ParamLayout, truth: &Outcome, got: &Outcome) -> Vec<Difference> {
    let mut out = vec![
        difference("loss", &[truth.loss], &[got.loss], 1e-5),
        difference("loss after steps of Adam", &[truth.loss_after], &[got.loss_after], 1e-4),
        difference("log_prob", &truth.log_prob, &got.log_prob, 1e-5),
        difference("sampling map", &truth.theta, &got.theta, 1e-5),
    ];
    for block in &layout.blocks {
        let part = |grad: &[f64]| grad.get(block.range()).unwrap_or_default().to_vec();
        let name = format!("gradient of {}", block.name);
        out.push(difference(&name, &part(&truth.grad), &part(&got.grad), 2e-3));
    }
    out.sort_by(|a, b| (b.error / b.bound).total_cmp(&(a.error / a.bound)));
    out
}

fn difference(what: &str, truth: &[f64], got: &[f64], bound: f64) -> Difference {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = if truth.len() == got.len() {
        norm(&mut truth.iter().zip(got).map(|(t, g)| t - g)) / norm(&mut truth.iter().copied())
    } else {
        f64::INFINITY
    };
    // The sign of a NaN is anybody's; infinity sorts first.
    Difference { what: what.to_owned(), error: if error.is_nan() { f64::INFINITY } else { error }, bound }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Base;
    use lwflow_model::{Activation, Coupling};

    fn problem() -> Problem {
        let shape = Shape {
            dim: 3,
            context_dim: 0,
            n_layers: 2,
            hidden: 8,
            activation: Activation::Relu,
            coupling: Coupling::Affine,
            base: Base::Mixture(2),
            batch: 64,
        };
        Problem::new(&shape, 64).unwrap()
    }

    #[test]
    fn the_definition_agrees_with_itself_and_no_gradient_is_zero() {
        let problem = problem();
        let truth = problem.truth().unwrap();
        let layout = ParamLayout::new(&problem.spec);
        let same = compare(&layout, &truth, &truth);
        assert_eq!(same.len(), 4 + layout.blocks.len());
        assert!(same.iter().all(|d| d.error == 0.0), "{same:?}");
        assert!((problem.check_batch().1.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_wrong_gradient_a_short_one_and_nan_are_found_and_named() {
        let problem = problem();
        let truth = problem.truth().unwrap();
        let layout = ParamLayout::new(&problem.spec);
        let worst = |change: &dyn Fn(&mut Outcome)| {
            let mut got = truth.clone();
            change(&mut got);
            compare(&layout, &truth, &got).swap_remove(0)
        };
        let means = layout.block("base/means").unwrap().range();
        let wrong = worst(&|o| o.grad[means.clone()].iter_mut().for_each(|g| *g *= 1.01));
        assert!(!wrong.holds() && wrong.what.ends_with("base/means"), "{wrong:?}");
        assert!(!worst(&|o| o.grad.truncate(5)).holds());
        assert!(!worst(&|o| o.loss = f64::NAN).holds());
        assert!(!worst(&|o| o.theta.fill(0.0)).holds());
        let fine = worst(&|o| o.loss *= 1.0 + 1e-7);
        assert!(fine.holds() && fine.error > 0.0, "{fine:?}");
    }
}
