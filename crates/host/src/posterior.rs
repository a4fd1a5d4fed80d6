//! A trained flow with everything needed to use it in the user's coordinates: samples strictly inside the prior's
//! support, and log densities that include every Jacobian.

mod context;
#[cfg(test)]
mod tests;

use crate::HostError;
use crate::files::LogZ;
use crate::novelty::Novelty;
use crate::rng::CounterField;
use lwflow_engine::FlowExecutor;
use lwflow_model::{Flow, FlowSpec, MixtureBase, OuterTransform};
use rayon::prelude::*;
use std::ops::{ControlFlow, Range};

/// A trained flow.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// Names of the parameters, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels of the parameters, `[D]`, without dollar signs.
    pub labels: Vec<String>,
    /// Bijections and standardisation.
    pub outer: OuterTransform,
    /// The flow in standardised coordinates.
    pub flow: Flow<f32>,
    /// Location and scale of the standardisation of the context, `[C]` each.
    pub context_location: Vec<f64>,
    /// See `context_location`.
    pub context_scale: Vec<f64>,
    /// How far from the training's contexts another one lies; `None` without context, and in older files.
    pub novelty: Option<Novelty>,
    /// Seed of the fit.
    pub seed: u64,
    /// The evidence, where the fit gave one.
    pub evidence: Option<LogZ>,
}

/// Draws of a posterior.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Draws `[n, D]` in the user's coordinates.
    pub theta: Vec<f64>,
    /// log q of each draw `[n]`.
    pub log_prob: Vec<f64>,
}

/// Rows handled at once.
pub const PIECE: usize = 65_536;

impl Posterior {
    /// Specification of the flow.
    pub fn spec(&self) -> &FlowSpec {
        self.flow.spec()
    }

    /// Number of parameters D.
    pub fn dim(&self) -> usize {
        self.spec().dim
    }

    /// Hands the parameters to an executor made for [`Posterior::spec`].
    ///
    /// # Errors
    /// Those of the engine.
    pub fn load(&self, executor: &mut FlowExecutor) -> Result<(), HostError> {
        Ok(executor.set_params(self.flow.params())?)
    }

    /// Draws `n` samples; draw i depends on the seed and i alone. `context` is one row `[C]` for all draws.
    ///
    /// # Errors
    /// Those of [`Posterior::sample_pieces`]; [`HostError::BadSetting`] if so many do not fit into memory.
    pub fn sample(
        &self,
        executor: &mut FlowExecutor,
        n: usize,
        context: &[f64],
        seed: u64,
    ) -> Result<Samples, HostError> {
        let too_many = || HostError::BadSetting {
            setting: "number of samples",
            got: n.to_string(),
            expected: "as many as fit into memory",
        };
        let mut out = Samples { theta: Vec::new(), log_prob: Vec::new() };
        let n_values = n.checked_mul(self.dim()).ok_or_else(too_many)?;
        out.theta.try_reserve_exact(n_values).map_err(|_| too_many())?;
        out.log_prob.try_reserve_exact(n).map_err(|_| too_many())?;
        self.sample_pieces(executor, n, context, seed, |mut piece| {
            out.theta.append(&mut piece.theta);
            out.log_prob.append(&mut piece.log_prob);
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// The draws of [`Posterior::sample`], handed to `take` in order and in pieces of [`PIECE`] at most, until it breaks.
    /// Returns the number of draws handed over.
    ///
    /// # Errors
    /// Those of the engine; [`HostError::Invalid`] if the context has the wrong length.
    pub fn sample_pieces(
        &self,
        executor: &mut FlowExecutor,
        n: usize,
        context: &[f64],
        seed: u64,
        take: impl FnMut(Samples) -> ControlFlow<()>,
    ) -> Result<usize, HostError> {
        let c = self.spec().context_dim;
        if context.len() != c {
            return Err(HostError::invalid(
                "context",
                format!("{} values", context.len()),
                format!("{c} values"),
            ));
        }
        self.sample_many(executor, n, context, seed, take)
    }

    /// Draws `n_each` samples for each row of `contexts`, `[K, C]`: the rows of the first context, those of the second, and so
    /// on, handed to `take` in pieces of [`PIECE`] at most, until it breaks. A piece may hold the draws of many contexts and
    /// is one call of the executor. Draw i of context k depends on the seed, the context, k and i alone; those of context 0
    /// are the draws of [`Posterior::sample`]. A model without context has one context, the empty one. Returns the number of
    /// draws handed over.
    ///
    /// # Errors
    /// Those of the engine; [`HostError::Invalid`] if `contexts` is not a whole number of rows, [`HostError::Model`] for a
    /// set with a wrong count; [`HostError::BadSetting`] for more draws than can be counted.
    pub fn sample_many(
        &self,
        executor: &mut FlowExecutor,
        n_each: usize,
        contexts: &[f64],
        seed: u64,
        mut take: impl FnMut(Samples) -> ControlFlow<()>,
    ) -> Result<usize, HostError> {
        let c = self.spec().context_dim;
        let n_contexts = contexts.len().checked_div(c).unwrap_or(1);
        if contexts.len() != n_contexts * c {
            let got = format!("{} values", contexts.len());
            return Err(HostError::invalid("contexts", got, format!("[n, {c}]")));
        }
        self.spec().check_context(contexts)?;
        let n = n_each.checked_mul(n_contexts).ok_or_else(|| HostError::BadSetting {
            setting: "number of samples",
            got: format!("{n_each} for each of {n_contexts} contexts"),
            expected: "as many as can be counted",
        })?;
        self.load(executor)?;
        let base: Flow<f64> = self.flow.cast();
        let mixture = base.mixture();
        let rows = self.standardised_context(contexts);
        let mut start = 0;
        while start < n {
            let end = n.min(start + PIECE);
            let z = self.base_draws(mixture.as_ref(), n_each, start..end, seed);
            let context: Vec<f32> =
                (start..end).flat_map(|row| rows[row / n_each * c..][..c].iter().copied()).collect();
            let (x, log_det) = executor.forward(&z, &context)?;
            start = end;
            if take(self.outside(mixture.as_ref(), &z, &x, &log_det)).is_break() {
                break;
            }
        }
        Ok(start)
    }

    /// Draws of the base, `[n, D]`, for the rows `rows` of contexts that take `n_each` rows each.
    fn base_draws(
        &self,
        mixture: Option<&MixtureBase<f64>>,
        n_each: usize,
        rows: Range<usize>,
        seed: u64,
    ) -> Vec<f32> {
        let d = self.dim();
        // The rows of one context each.
        let mut parts = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let next = rows.end.min((row / n_each + 1) * n_each);
            parts.push(row..next);
            row = next;
        }
        let draw = |part: Range<usize>| {
            let (k, first, m) = ((part.start / n_each) as u64, (part.start % n_each) as u64, part.len());
            let (mut normal, mut component) = (vec![0.0; m * d], vec![0.0; m]);
            CounterField::numbered(seed, "base normals", k, d).fill_standard_normal(first, &mut normal);
            let Some(mixture) = mixture else { return normal.iter().map(|&v| v as f32).collect() };
            CounterField::numbered(seed, "components", k, 1).fill_uniform(first, &mut component);
            let drawn = normal.par_chunks_exact(d).zip(&component).with_min_len(256);
            drawn
                .flat_map_iter(|(normal, &u)| mixture.sample(u, normal).into_iter().map(|v| v as f32))
                .collect()
        };
        let drawn: Vec<Vec<f32>> = parts.into_par_iter().map(draw).collect();
        drawn.concat()
    }

    /// Draws in the user's coordinates of z `[n, D]`, which the flow has moved to x `[n, D]` with `log_det` `[n]`.
    fn outside(&self, mixture: Option<&MixtureBase<f64>>, z: &[f32], x: &[f32], log_det: &[f32]) -> Samples {
        let d = self.dim();
        let mut samples = Samples { theta: vec![0.0; z.len()], log_prob: vec![0.0; log_det.len()] };
        let rows = samples.theta.par_chunks_exact_mut(d).zip(&mut samples.log_prob).enumerate();
        rows.with_min_len(64).for_each(|(i, (theta, log_prob))| {
            let f64s =
                |values: &[f32]| values[i * d..][..d].iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
            let z = f64s(z);
            let base = match mixture {
                Some(mixture) => mixture.log_prob(&z),
                None => lwflow_model::standard_normal_log_prob(&z),
            };
            let outer = self.outer.from_flow(&f64s(x), theta);
            *log_prob = base - f64::from(log_det[i]) - outer;
        });
        samples
    }

    /// log q(theta | context) of theta `[n, D]`, context `[n, C]`; -inf on or outside a bound.
    ///
    /// # Errors
    /// Those of [`Posterior::log_prob_pieces`].
    pub fn log_prob(
        &self,
        executor: &mut FlowExecutor,
        theta: &[f64],
        context: &[f64],
    ) -> Result<Vec<f64>, HostError> {
        let mut out = Vec::with_capacity(theta.len() / self.dim());
        self.log_prob_pieces(executor, theta, context, |piece| {
            out.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// log q(theta) of theta `[n, D]` by the definition of the flow in f64, without a device; for flows without context.
    ///
    /// # Errors
    /// [`HostError::Model`] if the arrays do not fit.
    pub fn log_prob_f64(&self, theta: &[f64]) -> Result<Vec<f64>, HostError> {
        let flow: Flow<f64> = self.flow.cast();
        theta
            .par_chunks_exact(self.dim())
            .map(|theta| {
                let mut x = vec![0.0; theta.len()];
                match self.outer.to_flow(theta, &mut x) {
                    Some(log_det) => Ok(flow.log_prob(&x, &[])?[0] - log_det),
                    None => Ok(f64::NEG_INFINITY),
                }
            })
            .collect()
    }

    /// The log densities of [`Posterior::log_prob`], handed to `take` in order and in pieces of [`PIECE`] at most, until it
    /// breaks. Returns the number of rows handed over.
    ///
    /// # Errors
    /// Those of the engine; [`HostError::Invalid`] if the arrays do not fit or a theta is not finite, [`HostError::Model`]
    /// for a set with a wrong count.
    pub fn log_prob_pieces(
        &self,
        executor: &mut FlowExecutor,
        theta: &[f64],
        context: &[f64],
        mut take: impl FnMut(&[f64]) -> ControlFlow<()>,
    ) -> Result<usize, HostError> {
        let (d, c) = (self.dim(), self.spec().context_dim);
        let n = theta.len() / d;
        if theta.len() != n * d || context.len() != n * c {
            return Err(HostError::invalid(
                "theta and context",
                format!("{} and {} values", theta.len(), context.len()),
                format!("[n, {d}] and [n, {c}]"),
            ));
        }
        if let Some(i) = theta.iter().position(|x| !x.is_finite()) {
            return Err(HostError::invalid(
                format!("theta, row {}, parameter {}", i / d, self.names[i % d]),
                theta[i],
                "a finite number",
            ));
        }
        self.spec().check_context(context)?;
        self.load(executor)?;
        let context = self.standardised_context(context);
        let mut start = 0;
        while start < n {
            let end = (start + PIECE).min(n);
            let mut piece = vec![f64::NEG_INFINITY; end - start];
            let (mut inside, mut x32, mut c32) = (Vec::new(), Vec::new(), Vec::new());
            let mut x = vec![0.0; d];
            for i in start..end {
                if let Some(log_det) = self.outer.to_flow(&theta[i * d..][..d], &mut x) {
                    inside.push((i - start, log_det));
                    x32.extend(x.iter().map(|&v| v as f32));
                    c32.extend_from_slice(&context[i * c..][..c]);
                }
            }
            if !inside.is_empty() {
                for ((i, log_det), q) in inside.into_iter().zip(executor.log_prob(&x32, &c32)?) {
                    piece[i] = f64::from(q) - log_det;
                }
            }
            start = end;
            if take(&piece).is_break() {
                break;
            }
        }
        Ok(start)
    }
}
