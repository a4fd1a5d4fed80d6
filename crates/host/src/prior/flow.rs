//! A trained posterior as a prior: uniform points of the cube become base coordinates by the sequential conditional quantiles
//! of the Gaussian mixture, and these become theta by the flow, all in f64. Invariant: the map is continuous and monotone in
//! each base coordinate, its log-Jacobian is minus the log density, so that the uniform cube becomes the flow's distribution.

use super::Prior;
use crate::HostError;
use crate::outer::{EdgeChoice, Support};
use crate::posterior::Posterior;
use crate::rng::{normal_cdf, normal_quantile};
use crate::weights::log_sum_exp;
use lwflow_model::{Flow, MixtureBase, OuterTransform, standard_normal_log_prob};
use std::f64::consts::TAU;

/// The distribution of a trained flow without context.
///
/// ```
/// use lwflow_host::posterior::Posterior;
/// use lwflow_host::prior::{FlowPrior, Prior};
/// # use lwflow_model::{BaseSpec, Bijection, Flow, FlowSettings, FlowSpec, OuterTransform};
/// # let spec = FlowSpec::build(1, 0, &FlowSettings::default(), BaseSpec::Gaussian, 1)?;
/// # let posterior = Posterior {
/// #     names: vec!["a".into()], labels: vec!["a".into()], outer: OuterTransform::new(vec![Bijection::UNBOUNDED]),
/// #     flow: Flow::init(spec, 1)?, context_location: vec![], context_scale: vec![], novelty: None, seed: 1, evidence: None,
/// # };
/// let prior = FlowPrior::new(&posterior)?;
/// let mut theta = [0.0];
/// prior.prior_transform(&[0.975], &mut theta);
/// assert!((theta[0] - 1.959964).abs() < 1e-6); // this flow was never trained and is its base
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FlowPrior {
    outer: OuterTransform,
    flow: Flow<f64>,
    mixture: Option<MixtureBase<f64>>,
}

impl FlowPrior {
    /// The distribution of `posterior`.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for a flow with context: it is a family of distributions.
    pub fn new(posterior: &Posterior) -> Result<Self, HostError> {
        if posterior.spec().context_dim > 0 {
            let got = format!("a flow given {} values of context", posterior.spec().context_dim);
            return Err(HostError::invalid("prior", got, "a flow without context"));
        }
        let flow: Flow<f64> = posterior.flow.cast();
        Ok(Self { outer: posterior.outer.clone(), mixture: flow.mixture(), flow })
    }

    /// Base coordinates of a point of the cube.
    fn base(&self, u: &[f64]) -> Vec<f64> {
        match &self.mixture {
            None => u.iter().map(|u| normal_quantile(*u)).collect(),
            Some(mixture) => {
                let mut conditionals = Conditionals::new(mixture);
                let each = u.iter().map(|u| {
                    let z = quantile(&conditionals.next(), *u);
                    conditionals.condition(z);
                    z
                });
                each.collect()
            }
        }
    }
}

impl Prior for FlowPrior {
    fn dim(&self) -> usize {
        self.outer.dim()
    }

    fn supports(&self) -> Vec<Support> {
        let each = self.outer.bijections.iter().map(|b| Support {
            lower: b.lower.map(|bound| bound.value),
            upper: b.upper.map(|bound| bound.value),
            periodic: b.cut.is_some(),
            lower_edge: EdgeChoice::Auto,
            upper_edge: EdgeChoice::Auto,
        });
        each.collect()
    }

    fn prior_transform(&self, u: &[f64], theta: &mut [f64]) {
        // Lengths fit, so the flow has no reason to refuse; a NaN would show in the density.
        match self.flow.forward_and_log_det(&self.base(u), &[]) {
            Ok((x, _)) => {
                self.outer.from_flow(&x, theta);
            }
            Err(_) => theta.fill(f64::NAN),
        }
    }

    fn log_prior(&self, theta: &[f64]) -> f64 {
        if theta.len() != self.dim() || theta.iter().any(|x| x.is_nan()) {
            return f64::NAN;
        }
        let mut x = vec![0.0; theta.len()];
        let Some(outer) = self.outer.to_flow(theta, &mut x) else { return f64::NEG_INFINITY };
        let Ok((z, log_det)) = self.flow.inverse_and_log_det(&x, &[]) else { return f64::NAN };
        let base = match &self.mixture {
            Some(mixture) => mixture.log_prob(&z),
            None => standard_normal_log_prob(&z),
        };
        base - log_det[0] - outer
    }
}

/// One component of a mixture of normals on the line.
#[derive(Debug, Clone, Copy)]
struct Part {
    weight: f64,
    mean: f64,
    sd: f64,
}

/// The mixture's coordinates one after another, each given those before: with z = mu_k + L_k y_k, coordinate j of component k
/// given y_k below j is normal with mean mu_kj + sum_i L_kji y_ki and standard deviation L_kjj.
struct Conditionals<'a> {
    mixture: &'a MixtureBase<f64>,
    /// Coordinates given so far.
    j: usize,
    /// log of weight times density of these, `[K]`.
    log_weight: Vec<f64>,
    /// Their whitened values, `[K, D]`.
    y: Vec<f64>,
}

impl<'a> Conditionals<'a> {
    fn new(mixture: &'a MixtureBase<f64>) -> Self {
        let log_weight: Vec<f64> = mixture.weights.iter().map(|w| w.ln()).collect();
        Self { mixture, j: 0, y: vec![0.0; log_weight.len() * mixture.dim], log_weight }
    }

    /// The distribution of the next coordinate, `[K]`.
    fn next(&self) -> Vec<Part> {
        let (d, j) = (self.mixture.dim, self.j);
        let total = log_sum_exp(&self.log_weight);
        let each = self.log_weight.iter().enumerate().map(|(k, log_weight)| {
            let row = &self.mixture.cholesky[(k * d + j) * d..][..d];
            let shift: f64 = row[..j].iter().zip(&self.y[k * d..]).map(|(l, y)| l * y).sum();
            Part {
                weight: (log_weight - total).exp(),
                mean: self.mixture.means[k * d + j] + shift,
                sd: row[j],
            }
        });
        each.collect()
    }

    /// Gives the next coordinate.
    fn condition(&mut self, z: f64) {
        let (d, j) = (self.mixture.dim, self.j);
        for (k, part) in self.next().into_iter().enumerate() {
            let y = (z - part.mean) / part.sd;
            self.y[k * d + j] = y;
            self.log_weight[k] -= 0.5 * y * y + part.sd.ln();
        }
        self.j += 1;
    }
}

/// Quantile of a mixture of normals: a bracketed Newton iteration on the logarithm of the nearer tail's mass. The quantile lies
/// between the least and the largest of the components'.
fn quantile(parts: &[Part], u: f64) -> f64 {
    // Mirrored where the upper tail is nearer, so that no small mass is one minus a large one.
    let (tail, sign) = if u > 0.5 { (1.0 - u, -1.0) } else { (u, 1.0) };
    let standard = normal_quantile(tail);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for part in parts {
        let slack = 1e-9 * (1.0 + standard.abs());
        low = low.min(sign * part.mean + part.sd * (standard - slack));
        high = high.max(sign * part.mean + part.sd * (standard + slack));
    }
    let mut t = 0.5 * (low + high);
    let mut last = high - low;
    for _ in 0..MAX_ITERATIONS {
        let (mut mass, mut density) = (0.0, 0.0);
        for part in parts {
            let y = (t - sign * part.mean) / part.sd;
            mass += part.weight * normal_cdf(y);
            density += part.weight * (-0.5 * y * y).exp() / (part.sd * TAU.sqrt());
        }
        if mass < tail {
            low = t;
        } else {
            high = t;
        }
        let newton = t - (mass.ln() - tail.ln()) * mass / density;
        // Halving where Newton leaves the bracket, or where it does not close in: between modes there is no slope.
        let trusted = newton > low && newton < high && (newton - t).abs() < 0.5 * last;
        let next = if trusted { newton } else { 0.5 * (low + high) };
        last = (next - t).abs();
        t = next;
        if last <= 2.0 * f64::EPSILON * t.abs().max(f64::MIN_POSITIVE) || !(low < t && t < high) {
            break;
        }
    }
    sign * t
}

/// Enough to halve any bracket down to neighbouring numbers.
const MAX_ITERATIONS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prior::transform_rows;
    use crate::rng::{CounterField, sobol_blocks};
    use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
    use lwflow_model::{BaseSpec, Bijection, Bound, Covariance, Edge, FlowSettings, FlowSpec, MixtureSpec};

    /// A flow with random layers, over three well separated components or a Gaussian, bounded in its first parameter.
    fn posterior(base: BaseSpec, dim: usize) -> Posterior {
        let settings = FlowSettings { n_layers: 3, hidden: vec![8], ..FlowSettings::default() };
        let spec = FlowSpec::build(dim, 0, &settings, base, 1).unwrap();
        let mut flow = Flow::<f32>::init(spec, 1).unwrap();
        let at = flow.layout().base;
        for (i, p) in flow.params_mut().iter_mut().enumerate() {
            *p = if i < at { 0.3 * (i as f32 * 1.7).sin() } else { 1.4 * (i as f32 * 2.3).sin() };
        }
        let bound = |value| Some(Bound { value, edge: Edge::Hard });
        let first = Bijection { lower: bound(-2.0), upper: bound(3.0), ..Bijection::UNBOUNDED };
        let mut bijections = vec![Bijection::UNBOUNDED; dim];
        bijections[0] = first;
        Posterior {
            names: (0..dim).map(|j| format!("x{j}")).collect(),
            labels: vec![String::new(); dim],
            outer: OuterTransform::new(bijections),
            flow,
            context_location: Vec::new(),
            context_scale: Vec::new(),
            novelty: None,
            seed: 1,
            evidence: None,
        }
    }

    fn mixture(covariance: Covariance) -> BaseSpec {
        BaseSpec::Mixture(MixtureSpec { n_components: 3, covariance, ..MixtureSpec::default() })
    }

    fn all() -> Vec<Posterior> {
        let bases = [BaseSpec::Gaussian, mixture(Covariance::Diagonal), mixture(Covariance::Full)];
        bases.into_iter().map(|base| posterior(base, 3)).collect()
    }

    /// The way back: the point of the cube that becomes theta.
    fn cube(prior: &FlowPrior, theta: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; theta.len()];
        prior.outer.to_flow(theta, &mut x).unwrap();
        let (z, _) = prior.flow.inverse_and_log_det(&x, &[]).unwrap();
        let Some(mixture) = &prior.mixture else { return z.iter().map(|z| normal_cdf(*z)).collect() };
        let mut conditionals = Conditionals::new(mixture);
        let each = z.iter().map(|z| {
            let u = conditionals.next().iter().map(|p| p.weight * normal_cdf((z - p.mean) / p.sd)).sum();
            conditionals.condition(*z);
            u
        });
        each.collect()
    }

    #[test]
    fn the_cube_comes_back() {
        for posterior in all() {
            let prior = FlowPrior::new(&posterior).unwrap();
            for u in sobol_blocks(3, 500, 3).points.chunks_exact(3) {
                let mut theta = [0.0; 3];
                prior.prior_transform(u, &mut theta);
                for (back, u) in cube(&prior, &theta).iter().zip(u) {
                    assert!((back - u).abs() < 1e-9, "{back} for {u}");
                }
            }
        }
    }

    /// d theta / d u has the determinant 1 / q(theta): the map takes the uniform cube to q and to nothing else.
    #[test]
    fn the_jacobian_is_the_inverse_density() {
        for posterior in all() {
            let prior = FlowPrior::new(&posterior).unwrap();
            let mut field = vec![0.0; 200 * 3];
            CounterField::new(5, "cube", 3).fill_uniform(0, &mut field);
            for u in field.chunks_exact(3) {
                let mut columns = [[0.0; 3]; 3];
                for j in 0..3 {
                    let h = 1e-6 * u[j].min(1.0 - u[j]);
                    let at = |h: f64| {
                        let (mut u, mut theta) = (u.to_vec(), [0.0; 3]);
                        u[j] += h;
                        prior.prior_transform(&u, &mut theta);
                        theta
                    };
                    let (plus, minus) = (at(h), at(-h));
                    for i in 0..3 {
                        columns[j][i] = (plus[i] - minus[i]) / (2.0 * h);
                    }
                }
                let [a, b, c] = columns;
                let determinant = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
                    + a[2] * (b[0] * c[1] - b[1] * c[0]);
                let mut theta = [0.0; 3];
                prior.prior_transform(u, &mut theta);
                let sum = determinant.abs().ln() + prior.log_prior(&theta);
                assert!(sum.abs() < 1e-3, "{sum} at {u:?}");
            }
        }
    }

    /// Largest difference of the distribution functions of two samples of one coordinate.
    fn ks(a: &[f64], b: &[f64], d: usize, j: usize) -> f64 {
        let column = |x: &[f64]| {
            let mut column: Vec<f64> = x.iter().skip(j).step_by(d).copied().collect();
            column.sort_by(f64::total_cmp);
            column
        };
        let (a, b) = (column(a), column(b));
        let below = |x: &[f64], v: f64| x.partition_point(|x| *x <= v) as f64 / x.len() as f64;
        a.iter().map(|v| (below(&a, *v) - below(&b, *v)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_cube_becomes_the_samples_of_the_posterior() {
        let engine =
            Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() }).unwrap();
        for posterior in all() {
            let prior = FlowPrior::new(&posterior).unwrap();
            let n = 8192;
            let theta = transform_rows(&prior, &sobol_blocks(7, n, 3).points);
            let mut executor = engine.flow(posterior.spec()).unwrap();
            let samples = posterior.sample(&mut executor, 40_000, &[], 2).unwrap().theta;
            for j in 0..3 {
                // The Sobol points are nearly exact; 1.63 / sqrt(n) is the 1 % point of the samples.
                let distance = ks(&theta, &samples, 3, j);
                assert!(distance < 1.63 / 200.0 + 1e-3, "{distance} in coordinate {j}");
            }
            let density = posterior.log_prob_f64(&theta[..300]).unwrap();
            for (theta, density) in theta.chunks_exact(3).zip(density) {
                assert!((prior.log_prior(theta) - density).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn quantiles_hold_in_gaps_and_far_tails() {
        let part = |weight, mean, sd| Part { weight, mean, sd };
        let two = [part(0.25, -50.0, 1.0), part(0.75, 50.0, 0.1)];
        let mass = |z: f64| two.iter().map(|p| p.weight * normal_cdf((z - p.mean) / p.sd)).sum::<f64>();
        for u in [f64::from_bits(1), 1e-300, 1e-12, 0.1, 0.2499999, 0.25, 0.2500001, 0.9] {
            let z = quantile(&two, u);
            assert!((mass(z) / u - 1.0).abs() < 1e-9 || u < 1e-305, "{u}: {z}");
        }
        let above = |z: f64| two.iter().map(|p| p.weight * normal_cdf((p.mean - z) / p.sd)).sum::<f64>();
        for u in [0.9, 1.0 - 1e-12, 1f64.next_down()] {
            assert!((above(quantile(&two, u)) / (1.0 - u) - 1.0).abs() < 1e-9, "{u}");
        }
        // In order, over the gap too.
        let grid: Vec<f64> = (1..10_000).map(|i| quantile(&two, f64::from(i) / 10_000.0)).collect();
        assert!(grid.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn corners_have_a_density_and_bounds_none() {
        for posterior in all() {
            let prior = FlowPrior::new(&posterior).unwrap();
            let mut theta = [0.0; 3];
            for u in [1e-300, 1e-12, 0.5, 1.0 - 1e-12, 1f64.next_down()] {
                prior.prior_transform(&[u; 3], &mut theta);
                assert!(theta[0] > -2.0 && theta[0] < 3.0, "{theta:?}");
            }
            prior.prior_transform(&[1e-9; 3], &mut theta);
            assert!(prior.log_prior(&theta).is_finite());
            assert_eq!(prior.log_prior(&[-2.0, 0.0, 0.0]), f64::NEG_INFINITY);
            assert!(prior.log_prior(&[f64::NAN, 0.0, 0.0]).is_nan());
            assert_eq!(prior.supports()[0].upper, Some(3.0));
        }
        let spec = FlowSpec::build(1, 2, &FlowSettings::default(), BaseSpec::Gaussian, 1).unwrap();
        let given = Posterior { flow: Flow::init(spec, 1).unwrap(), ..posterior(BaseSpec::Gaussian, 1) };
        assert!(FlowPrior::new(&given).unwrap_err().to_string().contains("without context"));
    }
}
