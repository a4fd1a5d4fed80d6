//! The executable definition of a flow: log density, sampling map and weighted-loss gradient, sample by sample.
//! It favours being read over being fast; engines are compared with it in `f64`.

use crate::context::ContextNetwork;
use crate::coupling::CouplingLayer;
use crate::{BaseSpec, FlowSpec, MixtureBase, MixtureStatistics, ModelError, ParamLayout, Real};
use crate::{spec::MAX_DIM, standard_normal_log_prob};
use rand::{RngExt, SeedableRng};
use std::borrow::Cow;

/// A flow with its parameters.
#[derive(Debug, Clone)]
pub struct Flow<T> {
    spec: FlowSpec,
    layout: ParamLayout,
    params: Vec<T>,
}

/// Weighted loss and its gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient<T> {
    /// `-sum_i w_i log q_i` (samples of weight zero add nothing).
    pub loss: T,
    /// log q_i, `[n]`.
    pub log_prob: Vec<T>,
    /// Gradient with respect to the flat parameter vector.
    pub params: Vec<T>,
    /// Gradient with respect to the context, `[n, C]`.
    pub context: Vec<T>,
    /// Gradient with respect to theta, `[n, D]`.
    pub theta: Vec<T>,
}

impl<T: Real> Flow<T> {
    /// A flow that is the identity on its base: hidden layers and the context network drawn uniformly within
    /// +-1/sqrt(n_in), last layers of conditioners zero; mixture components at the origin with unit scale.
    ///
    /// # Errors
    /// [`ModelError::Spec`] for an invalid specification.
    pub fn init(spec: FlowSpec, seed: u64) -> Result<Self, ModelError> {
        spec.validate()?;
        let layout = ParamLayout::new(&spec);
        let mut params = vec![T::zero(); layout.len];
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let hidden = layout.layers.iter().flat_map(|linears| &linears[..linears.len() - 1]);
        for linear in hidden.chain(&layout.phi).chain(&layout.rho) {
            let bound = 1.0 / (linear.n_in.max(1) as f64).sqrt();
            for p in &mut params[linear.weight..linear.bias + linear.n_out] {
                *p = T::from_f64(rng.random_range(-bound..bound));
            }
        }
        Ok(Self { spec, layout, params })
    }

    /// A flow from its flat parameter vector.
    ///
    /// # Errors
    /// [`ModelError::Spec`] for an invalid specification, [`ModelError::Length`] if `params` does not fit it.
    pub fn from_params(spec: FlowSpec, params: Vec<T>) -> Result<Self, ModelError> {
        spec.validate()?;
        let layout = ParamLayout::new(&spec);
        check("params", params.len(), layout.len, "the layout's length")?;
        Ok(Self { spec, layout, params })
    }

    /// The specification.
    pub fn spec(&self) -> &FlowSpec {
        &self.spec
    }

    /// The layout of the parameter vector.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The flat parameter vector.
    pub fn params(&self) -> &[T] {
        &self.params
    }

    /// The flat parameter vector, to be changed.
    pub fn params_mut(&mut self) -> &mut [T] {
        &mut self.params
    }

    /// The same flow in another number type.
    pub fn cast<U: Real>(&self) -> Flow<U> {
        Flow {
            spec: self.spec.clone(),
            layout: self.layout.clone(),
            params: self.params.iter().map(|p| U::from_f64(p.to_f64())).collect(),
        }
    }

    /// The mixture base, or `None` for the standard normal.
    pub fn mixture(&self) -> Option<MixtureBase<T>> {
        match &self.spec.base {
            BaseSpec::Gaussian => None,
            BaseSpec::Mixture(m) => {
                Some(MixtureBase::new(m, self.spec.dim, &self.params[self.layout.base..]))
            }
        }
    }

    fn coupling(&self, l: usize) -> CouplingLayer<'_, T> {
        CouplingLayer { spec: &self.spec.layers[l], linears: &self.layout.layers[l], params: &self.params }
    }

    /// Checks the shapes of `[n, D]` and `[n, C]` arrays; returns n.
    fn rows(&self, what: &'static str, x: &[T], context: &[T]) -> Result<usize, ModelError> {
        debug_assert!(self.spec.dim <= MAX_DIM);
        let n = x.len() / self.spec.dim;
        check(what, x.len(), n * self.spec.dim, "a multiple of the dimension")?;
        check("context", context.len(), n * self.spec.context_dim, "n times the context dimension")?;
        Ok(n)
    }

    fn network(&self) -> Option<ContextNetwork<'_, T>> {
        let spec = self.spec.context_network.as_ref()?;
        Some(ContextNetwork { spec, layout: &self.layout, params: &self.params })
    }

    /// What the conditioners see of context `[n, C]`: the features of the context network, `[n, F]`, or the context itself.
    ///
    /// # Errors
    /// [`ModelError::Length`] if the array is no whole number of rows, [`ModelError::Count`] for a set whose count is none.
    pub fn features<'a>(&self, context: &'a [T]) -> Result<Cow<'a, [T]>, ModelError> {
        let Some(network) = self.network() else { return Ok(Cow::Borrowed(context)) };
        let c = self.spec.context_dim;
        check("context", context.len() % c, 0, "beyond whole rows")?;
        self.spec.check_context(context)?;
        Ok(context.chunks_exact(c).flat_map(|row| network.run(row).features().to_vec()).collect())
    }

    fn features_row<'a>(&self, features: &'a [T], i: usize) -> &'a [T] {
        let f = self.spec.n_features();
        &features[i * f..][..f]
    }

    /// Base to data: theta `[n, D]` and log_det `[n]` of z `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// [`ModelError::Length`] if the arrays do not fit.
    pub fn forward_and_log_det(&self, z: &[T], context: &[T]) -> Result<(Vec<T>, Vec<T>), ModelError> {
        let n = self.rows("z", z, context)?;
        let features = self.features(context)?;
        let mut x = z.to_vec();
        let mut log_det = vec![T::zero(); n];
        for i in 0..n {
            let row = &mut x[i * self.spec.dim..][..self.spec.dim];
            for l in 0..self.spec.layers.len() {
                log_det[i] += self.coupling(l).forward(row, self.features_row(&features, i));
            }
        }
        Ok((x, log_det))
    }

    /// Data to base: z `[n, D]` and the forward map's log_det `[n]` of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// [`ModelError::Length`] if the arrays do not fit.
    pub fn inverse_and_log_det(&self, theta: &[T], context: &[T]) -> Result<(Vec<T>, Vec<T>), ModelError> {
        let n = self.rows("theta", theta, context)?;
        let features = self.features(context)?;
        let mut x = theta.to_vec();
        let mut log_det = vec![T::zero(); n];
        for i in 0..n {
            let row = &mut x[i * self.spec.dim..][..self.spec.dim];
            for l in (0..self.spec.layers.len()).rev() {
                log_det[i] += self.coupling(l).inverse(row, self.features_row(&features, i));
            }
        }
        Ok((x, log_det))
    }

    /// Log density of the base at z `[n, D]`.
    ///
    /// # Errors
    /// [`ModelError::Length`] if `z` is not a multiple of the dimension.
    pub fn base_log_prob(&self, z: &[T]) -> Result<Vec<T>, ModelError> {
        let n = z.len() / self.spec.dim;
        check("z", z.len(), n * self.spec.dim, "a multiple of the dimension")?;
        let mixture = self.mixture();
        Ok(z.chunks_exact(self.spec.dim)
            .map(|z| match &mixture {
                Some(m) => m.log_prob(z),
                None => standard_normal_log_prob(z),
            })
            .collect())
    }

    /// log q(theta | context), `[n]`.
    ///
    /// # Errors
    /// [`ModelError::Length`] if the arrays do not fit.
    pub fn log_prob(&self, theta: &[T], context: &[T]) -> Result<Vec<T>, ModelError> {
        let (z, log_det) = self.inverse_and_log_det(theta, context)?;
        Ok(self.base_log_prob(&z)?.into_iter().zip(log_det).map(|(p, d)| p - d).collect())
    }

    /// Weighted loss `-sum_i w_i log q(theta_i | c_i)` and its gradients.
    ///
    /// With `log_inv_proposal` lv `[n]`, lv_i = -log(N r(theta_i)), the gradients use the effective weights
    /// w_i - exp(log q_i + lv_i): since E_r[q / r] = 1 for every q, the added term has expectation zero, and at q = p
    /// every sample's gradient vanishes. The loss stays that of the plain weights.
    ///
    /// # Errors
    /// [`ModelError::Length`] if the arrays do not fit.
    pub fn gradient(
        &self,
        theta: &[T],
        context: &[T],
        weights: &[T],
        log_inv_proposal: Option<&[T]>,
    ) -> Result<Gradient<T>, ModelError> {
        let (d, n_layers) = (self.spec.dim, self.spec.layers.len());
        let n = self.rows("theta", theta, context)?;
        check("weights", weights.len(), n, "one per sample")?;
        if let Some(lv) = log_inv_proposal {
            check("log_inv_proposal", lv.len(), n, "one per sample")?;
        }
        let features = self.features(context)?;
        let (mut x, log_det) = self.inverse_and_log_det(theta, context)?;
        let log_prob: Vec<T> = self.base_log_prob(&x)?.into_iter().zip(log_det).map(|(p, d)| p - d).collect();
        let mixture = self.mixture();
        let f = self.spec.n_features();
        let mut grad_features = vec![T::zero(); features.len()];
        let mut statistics = match &self.spec.base {
            BaseSpec::Mixture(m) => Some(MixtureStatistics::zeros(m, d)),
            BaseSpec::Gaussian => None,
        };
        let mut out = Gradient {
            loss: T::zero(),
            log_prob,
            params: vec![T::zero(); self.layout.len],
            context: vec![T::zero(); context.len()],
            theta: vec![T::zero(); theta.len()],
        };
        for i in 0..n {
            if weights[i] != T::zero() {
                out.loss -= weights[i] * out.log_prob[i];
            }
            let w = match log_inv_proposal {
                Some(lv) => weights[i] - (out.log_prob[i] + lv[i]).exp(),
                None => weights[i],
            };
            let row = &mut x[i * d..][..d];
            let g = &mut out.theta[i * d..][..d];
            match (&mixture, &mut statistics) {
                (Some(m), Some(s)) => m.backward(row, w, g, s),
                _ => {
                    for (g, &z) in g.iter_mut().zip(row.iter()) {
                        *g = w * z;
                    }
                }
            }
            let grad = &mut grad_features[i * f..][..f];
            for l in 0..n_layers {
                let features = self.features_row(&features, i);
                self.coupling(l).backward(row, g, w, features, &mut out.params, grad);
            }
        }
        match self.network() {
            None => out.context = grad_features,
            Some(network) => {
                let c = self.spec.context_dim;
                for (i, delta) in grad_features.chunks_exact(f).enumerate() {
                    let (row, grad) = (&context[i * c..][..c], &mut out.context[i * c..][..c]);
                    network.backward(row, delta.to_vec(), &mut out.params, grad);
                }
            }
        }
        if let (Some(m), Some(s)) = (&mixture, &statistics) {
            out.params[self.layout.base..].copy_from_slice(&m.gradient(s));
        }
        Ok(out)
    }
}

fn check(what: &'static str, got: usize, expected: usize, words: &str) -> Result<(), ModelError> {
    if got == expected {
        return Ok(());
    }
    Err(ModelError::Length { what, got, expected: format!("{expected} ({words})") })
}
