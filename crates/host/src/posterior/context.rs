//! What a conditional posterior knows of its context: the standardisation, how new an observation is, and the posterior of one
//! observation alone. Invariant: there is one standardisation, that of the training.

use super::Posterior;
use crate::HostError;
use crate::novelty::NoveltyScore;
use lwflow_model::{Flow, FlowSpec};

impl Posterior {
    /// The posterior of one observation, `[C]`, as a flow without context: what the context adds to a conditioner's first
    /// linear map goes into its biases.
    ///
    /// # Errors
    /// [`HostError::Invalid`] if the context has the wrong length or is not finite.
    pub fn given(&self, context: &[f64]) -> Result<Self, HostError> {
        let c = self.spec().context_dim;
        if context.len() != c || !context.iter().all(|x| x.is_finite()) {
            return Err(HostError::invalid("context", format!("{context:?}"), format!("{c} finite values")));
        }
        let row = self.standardised_context(context);
        let layout = self.flow.layout();
        let mut params = Vec::with_capacity(layout.len);
        for linears in &layout.layers {
            for (k, linear) in linears.iter().enumerate() {
                let weights = self.flow.params()[linear.weight..][..linear.n_in * linear.n_out]
                    .chunks_exact(linear.n_in.max(1));
                let bias = &self.flow.params()[linear.bias..][..linear.n_out];
                let own = linear.n_in - if k == 0 { c } else { 0 };
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
        let spec = FlowSpec { context_dim: 0, ..self.spec().clone() };
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
    /// [`HostError::Invalid`] if `contexts` is not a whole number of rows.
    pub fn novelty_scores(&self, contexts: &[f64]) -> Result<Option<Vec<NoveltyScore>>, HostError> {
        let c = self.spec().context_dim;
        let Some(novelty) = self.novelty.as_ref().filter(|_| c > 0) else { return Ok(None) };
        if !contexts.len().is_multiple_of(c) {
            let got = format!("{} values", contexts.len());
            return Err(HostError::invalid("contexts", got, format!("[n, {c}]")));
        }
        let standardised: Vec<f64> = self.standardised(contexts).collect();
        Ok(Some(standardised.chunks_exact(c).map(|row| novelty.score(row)).collect()))
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
