//! What a conditional posterior knows of its context: the standardisation, how new an observation is, and the posterior of one
//! observation alone. Invariant: there is one standardisation, that of the training.

use super::Posterior;
use crate::HostError;
use crate::novelty::{Novelty, NoveltyScore};
use lwflow_engine::FlowExecutor;
use lwflow_model::{ContextNetworkSpec, Flow, FlowSpec};
use rayon::prelude::*;

impl Posterior {
    /// The posterior of one observation, `[C]`, as a flow without context: what the context adds to a conditioner's first
    /// linear map goes into its biases. A context network is run once, and is not there any more.
    ///
    /// # Errors
    /// [`HostError::Invalid`] if the context has the wrong length or is not finite, [`HostError::Model`] for a wrong count.
    pub fn given(&self, context: &[f64]) -> Result<Self, HostError> {
        let c = self.spec().context_dim;
        if context.len() != c || !context.iter().all(|x| x.is_finite()) {
            return Err(HostError::invalid("context", format!("{context:?}"), format!("{c} finite values")));
        }
        let row = self.features(context)?;
        let layout = self.flow.layout();
        let mut params = Vec::with_capacity(layout.len);
        for linears in &layout.layers {
            for (k, linear) in linears.iter().enumerate() {
                let weights = self.flow.params()[linear.weight..][..linear.n_in * linear.n_out]
                    .chunks_exact(linear.n_in.max(1));
                let bias = &self.flow.params()[linear.bias..][..linear.n_out];
                let own = linear.n_in - if k == 0 { row.len() } else { 0 };
                params.extend(weights.clone().flat_map(|row| &row[..own]));
                let add = |w: &[f32]| -> f32 {
                    let terms = w[own..].iter().zip(&row).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    terms.sum::<f64>() as f32
                };
                let shifts = weights.map(add).chain(std::iter::repeat(0.0));
                params.extend(bias.iter().zip(shifts).map(|(b, shift)| b + shift));
            }
        }
        params.extend(&self.flow.params()[layout.base..]);
        let spec = FlowSpec { context_dim: 0, context_network: None, ..self.spec().clone() };
        Ok(Self {
            flow: Flow::from_params(spec, params)?,
            context_location: Vec::new(),
            context_scale: Vec::new(),
            novelty: None,
            ..self.clone()
        })
    }

    /// How new each of `contexts`, `[K, C]`, is; `None` if the model does not know its training's.
    ///
    /// # Errors
    /// [`HostError::Invalid`] if `contexts` is not a whole number of rows, [`HostError::Model`] for a wrong count.
    pub fn novelty_scores(&self, contexts: &[f64]) -> Result<Option<Vec<NoveltyScore>>, HostError> {
        let c = self.spec().context_dim;
        let Some(novelty) = self.novelty.as_ref().filter(|_| c > 0) else { return Ok(None) };
        if !contexts.len().is_multiple_of(c) {
            let got = format!("{} values", contexts.len());
            return Err(HostError::invalid("contexts", got, format!("[n, {c}]")));
        }
        let rows: Vec<f64> = match self.spec().context_network {
            Some(ContextNetworkSpec::Set(_)) => self.features(contexts)?.into_iter().map(f64::from).collect(),
            Some(ContextNetworkSpec::Mlp(_)) | None => self.standardised(contexts).collect(),
        };
        Ok(Some(rows.chunks_exact(Novelty::width(self.spec())).map(|row| novelty.score(row)).collect()))
    }

    /// Learns from the training's contexts, standardised `[n, C]`, how far those of sets lie, which training has changed.
    pub(crate) fn learn_novelty(
        &mut self,
        executor: &mut FlowExecutor,
        contexts: &[f32],
    ) -> Result<(), HostError> {
        if let Some(ContextNetworkSpec::Set(set)) = &self.flow.spec().context_network {
            self.load(executor)?;
            self.novelty = Novelty::of_features(&executor.features(contexts)?, set.n_features);
        }
        Ok(())
    }

    /// What the conditioners see of `contexts`, `[K, C]`, by the definition in f64; equal rows that follow each other are
    /// one observation.
    fn features(&self, contexts: &[f64]) -> Result<Vec<f32>, HostError> {
        let c = self.spec().context_dim;
        if self.spec().context_network.is_none() {
            return Ok(self.standardised_context(contexts));
        }
        self.spec().check_context(contexts)?;
        let flow: Flow<f64> = self.flow.cast();
        let mut distinct: Vec<(&[f64], usize)> = Vec::new();
        for row in contexts.chunks_exact(c) {
            match distinct.last_mut() {
                Some((last, n)) if *last == row => *n += 1,
                _ => distinct.push((row, 1)),
            }
        }
        let features = distinct.par_iter().map(|(row, n)| {
            let standardised: Vec<f64> = self.standardised(row).collect();
            let features = flow.features(&standardised)?;
            Ok(features.iter().map(|&v| v as f32).collect::<Vec<f32>>().repeat(*n))
        });
        Ok(features.collect::<Result<Vec<_>, HostError>>()?.concat())
    }

    /// Context rows `[n, C]` in the flow's coordinates.
    pub(crate) fn standardised_context(&self, contexts: &[f64]) -> Vec<f32> {
        self.standardised(contexts).map(|x| x as f32).collect()
    }

    fn standardised(&self, contexts: &[f64]) -> impl Iterator<Item = f64> {
        let scaling = self.context_location.iter().zip(&self.context_scale).cycle();
        contexts.iter().zip(scaling).map(|(x, (location, scale))| (x - location) / scale)
    }
}
