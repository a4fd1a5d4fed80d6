//! Wide twins: what draws in a round is the trained flow with a wider copy of every component of its base.
//! Invariant: the layers stay as they were; in a round the twins hold a tenth of the base's mass, so that no weight can exceed ten
//! times that of the twins alone (defensive importance sampling, Hesterberg 1995, in base coordinates).

use crate::HostError;
use crate::posterior::Posterior;
use lwflow_model::{BaseSpec, Covariance, Flow, MixtureSpec, ParamLayout};

/// Share of the base's mass that the twins hold.
const SHARE: f64 = 0.1;

/// Scale of a twin in scales of its component. Draws of a D-dimensional Gaussian lie at radii of about sqrt(D) +- 0.7; the
/// twin's lie about one and a half of these standard deviations further out, whatever the dimension.
fn widening(dim: usize) -> f64 {
    1.0 + 1.0 / (dim as f64).sqrt()
}

/// `trained` with the twins that draw in a round.
///
/// # Errors
/// Those of the model.
pub(super) fn with_twins(trained: &Posterior) -> Result<Posterior, HostError> {
    with_twins_of(trained, SHARE, widening(trained.dim()))
}

/// `trained` with a twin of `factor` times the scale beside every component, `share` of the base's mass in the twins; they
/// follow the components, in their order. A Gaussian base becomes a mixture of itself and its twin.
///
/// # Errors
/// Those of the model.
pub(crate) fn with_twins_of(trained: &Posterior, share: f64, factor: f64) -> Result<Posterior, HostError> {
    let mut spec = trained.spec().clone();
    let d = spec.dim;
    let (layers, base) = trained.flow.params().split_at(ParamLayout::new(&spec).base);
    let (one, base) = match &spec.base {
        BaseSpec::Mixture(mixture) => (mixture.clone(), base.to_vec()),
        BaseSpec::Gaussian => {
            let one = MixtureSpec { covariance: Covariance::Diagonal, ..MixtureSpec::default() };
            let n = 1 + d + one.n_scales(d);
            (one, vec![0.0; n])
        }
    };
    let (logits, rest) = base.split_at(one.n_components);
    let (means, scales) = rest.split_at(one.n_components * d);
    let log_odds = (share / (1.0 - share)).ln() as f32;
    let factor = factor as f32;
    // The diagonal of a factor is stored by its logarithm.
    let is_logarithm = |entry: usize| match one.covariance {
        Covariance::Diagonal => true,
        Covariance::Full => (0..d).any(|i| i * (i + 3) / 2 == entry),
    };
    let mut params = [layers, logits].concat();
    params.extend(logits.iter().map(|logit| logit + log_odds));
    params.extend([means, means, scales].concat());
    for component in scales.chunks_exact(one.n_scales(d)) {
        let wide = |(i, &entry): (usize, &f32)| {
            if is_logarithm(i) { entry + factor.ln() } else { entry * factor }
        };
        params.extend(component.iter().enumerate().map(wide));
    }
    spec.base = BaseSpec::Mixture(MixtureSpec { n_components: 2 * one.n_components, ..one });
    Ok(Posterior { flow: Flow::from_params(spec, params)?, ..trained.clone() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lwflow_model::{Bijection, FlowSettings, FlowSpec, OuterTransform};

    /// An untrained flow in the user's own coordinates.
    pub(in crate::rounds) fn posterior(base: BaseSpec, dim: usize) -> Posterior {
        let settings = FlowSettings { n_layers: 2, hidden: vec![4], ..FlowSettings::default() };
        let spec = FlowSpec::build(dim, 0, &settings, base, 1).unwrap();
        let n = Flow::<f32>::init(spec.clone(), 1).unwrap().params().len();
        let params: Vec<f32> = (0..n).map(|i| 0.3 * (i as f32 * 1.7).sin()).collect();
        Posterior {
            names: (0..dim).map(|j| format!("x{j}")).collect(),
            labels: vec![String::new(); dim],
            outer: OuterTransform::new(vec![Bijection::UNBOUNDED; dim]),
            flow: Flow::from_params(spec, params).unwrap(),
            context_location: Vec::new(),
            context_scale: Vec::new(),
            novelty: None,
            seed: 1,
            evidence: None,
        }
    }

    /// log of the base's density with all scales times `factor`, at the base coordinates of theta, with the layers' log-det.
    fn widened(posterior: &Posterior, theta: &[f64], factor: f64) -> f64 {
        let flow = posterior.flow.cast::<f64>();
        let (z, log_det) = flow.inverse_and_log_det(theta, &[]).unwrap();
        let log_det = log_det[0];
        // Around each mean: only a single component is used here.
        let at = ParamLayout::new(posterior.spec()).base;
        let d = posterior.dim();
        let mean: Vec<f64> = match &posterior.spec().base {
            BaseSpec::Gaussian => vec![0.0; d],
            BaseSpec::Mixture(_) => flow.params()[at + 1..][..d].to_vec(),
        };
        let shrunk: Vec<f64> = z.iter().zip(&mean).map(|(z, m)| m + (z - m) / factor).collect();
        let mut alone = posterior.clone();
        alone.flow = Flow::from_params(
            FlowSpec { layers: Vec::new(), ..posterior.spec().clone() },
            posterior.flow.params()[at..].to_vec(),
        )
        .unwrap();
        alone.log_prob_f64(&shrunk).unwrap()[0] - d as f64 * factor.ln() - log_det
    }

    #[test]
    fn the_density_is_nine_tenths_the_flow_and_one_tenth_its_twin() {
        let mixture = |covariance| {
            BaseSpec::Mixture(MixtureSpec { covariance, weight_floor: 0.0, ..MixtureSpec::default() })
        };
        for dim in [1, 2, 3, 5] {
            for base in [BaseSpec::Gaussian, mixture(Covariance::Full), mixture(Covariance::Diagonal)] {
                let trained = posterior(base.clone(), dim);
                let both = with_twins(&trained).unwrap();
                for step in [-3.0, -0.4, 0.0, 1.1, 6.0] {
                    let theta: Vec<f64> = (0..dim).map(|j| step * (1.0 + 0.1 * j as f64)).collect();
                    let log_q = trained.log_prob_f64(&theta).unwrap()[0];
                    let twin = widened(&trained, &theta, widening(dim));
                    let expected = (0.9 * log_q.exp() + 0.1 * twin.exp()).ln();
                    let got = both.log_prob_f64(&theta).unwrap()[0];
                    approx::assert_relative_eq!(got, expected, epsilon = 2e-5, max_relative = 2e-5);
                }
            }
        }
    }
}
