//! A trained flow with everything needed to use it in the user's coordinates: samples strictly inside the prior's
//! support, and log densities that include every Jacobian.

use crate::HostError;
use crate::files::LogZ;
use crate::rng::CounterField;
use lwflow_engine::FlowExecutor;
use lwflow_model::{Flow, FlowSpec, OuterTransform};
use rayon::prelude::*;
use std::ops::ControlFlow;

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

    /// Context rows `[n, C]` in the flow's coordinates.
    fn standardised_context(&self, context: &[f64]) -> Vec<f32> {
        let c = self.spec().context_dim;
        context
            .iter()
            .enumerate()
            .map(|(i, &x)| ((x - self.context_location[i % c]) / self.context_scale[i % c]) as f32)
            .collect()
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
        mut take: impl FnMut(Samples) -> ControlFlow<()>,
    ) -> Result<usize, HostError> {
        let (d, c) = (self.dim(), self.spec().context_dim);
        if context.len() != c {
            return Err(HostError::invalid(
                "context",
                format!("{} values", context.len()),
                format!("{c} values"),
            ));
        }
        self.load(executor)?;
        let base: Flow<f64> = self.flow.cast();
        let (normals, components) =
            (CounterField::new(seed, "base normals", d), CounterField::new(seed, "components", 1));
        let mixture = base.mixture();
        let row = self.standardised_context(context);
        let mut start = 0;
        while start < n {
            let m = PIECE.min(n - start);
            let (mut normal, mut component) = (vec![0.0; m * d], vec![0.0; m]);
            normals.fill_standard_normal(start as u64, &mut normal);
            components.fill_uniform(start as u64, &mut component);
            let z: Vec<f32> = match &mixture {
                Some(mixture) => normal
                    .par_chunks_exact(d)
                    .zip(&component)
                    .flat_map_iter(|(normal, &u)| mixture.sample(u, normal).into_iter().map(|v| v as f32))
                    .collect(),
                None => normal.iter().map(|&v| v as f32).collect(),
            };
            let context: Vec<f32> = (0..m).flat_map(|_| row.iter().copied()).collect();
            let (x, log_det) = executor.forward(&z, &context)?;
            let rows: Vec<(Vec<f64>, f64)> = (0..m)
                .into_par_iter()
                .map(|i| {
                    let z: Vec<f64> = z[i * d..][..d].iter().map(|&v| f64::from(v)).collect();
                    let x: Vec<f64> = x[i * d..][..d].iter().map(|&v| f64::from(v)).collect();
                    let base = match &mixture {
                        Some(mixture) => mixture.log_prob(&z),
                        None => lwflow_model::standard_normal_log_prob(&z),
                    };
                    let mut theta = vec![0.0; d];
                    let outer = self.outer.from_flow(&x, &mut theta);
                    (theta, base - f64::from(log_det[i]) - outer)
                })
                .collect();
            let mut piece = Samples { theta: Vec::with_capacity(m * d), log_prob: Vec::with_capacity(m) };
            for (theta, log_prob) in rows {
                piece.theta.extend(theta);
                piece.log_prob.push(log_prob);
            }
            start += m;
            if take(piece).is_break() {
                break;
            }
        }
        Ok(start)
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
    /// Those of the engine; [`HostError::Invalid`] if the arrays do not fit or a theta is not finite.
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
