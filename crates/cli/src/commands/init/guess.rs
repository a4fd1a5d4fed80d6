//! What weighted points let one guess: where a parameter ends, and of how many Gaussians they are a mixture.
//! Invariant: every weighted point lies strictly inside a guessed bound, so that a fit accepts it.

use crate::exit::CommandError;
use crate::progress::go_on;
use lwflow_host::fit::{FitInput, prepare};
use lwflow_host::mixture::{MixtureFitSettings, SelectionRow, select_mixture};
use lwflow_host::rounds::count_modes;
use lwflow_host::weights::thinned;

/// Fewer effective points show no edge.
const LEAST_ESS: f64 = 1000.0;
/// Mass piles up at an end if the 1 % quantile is nearer to it than this share of the 10 % quantile's distance: a density
/// that is constant there gives 0.1, one that is linear 0.32, the extreme of a thousand normal draws about 0.45.
const PILED_UP: f64 = 0.2;
/// The bound is sought within the span of so many effective points beyond the last: with a constant density it lies
/// farther out with probability exp(-10).
const SPAN: f64 = 10.0;
/// Points to which mixtures are fitted.
const EM_POINTS: usize = 8192;
/// Most components that are tried.
const MAX_COMPONENTS: usize = 12;

/// The values of one parameter at the points that carry weight, ascending, with self-normalised weights.
#[derive(Debug, Clone)]
pub struct Marginal {
    points: Vec<(f64, f64)>,
    ess: f64,
}

impl Marginal {
    /// From all values `[n]` and their weights `[n]`, of any positive sum; `ess` is what the weights are worth.
    pub fn new(values: impl Iterator<Item = f64>, weights: &[f64], ess: f64) -> Self {
        let sum: f64 = weights.iter().sum();
        let mut points: Vec<(f64, f64)> =
            values.zip(weights).filter(|(_, w)| **w > 0.0).map(|(x, w)| (x, w / sum)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { points, ess }
    }

    /// Least and largest value.
    pub fn ends(&self) -> (f64, f64) {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => (f64::NAN, f64::NAN),
        }
    }

    /// Whether there are enough effective points to see where mass piles up.
    pub fn shows_ends(&self) -> bool {
        self.ess >= LEAST_ESS
    }

    /// How many points lie on or outside a bound.
    pub fn n_outside(&self, lower: Option<f64>, upper: Option<f64>) -> usize {
        let outside = |x: f64| lower.is_some_and(|b| x <= b) || upper.is_some_and(|b| x >= b);
        self.points.iter().filter(|(x, _)| outside(*x)).count()
    }

    /// The lower end of the support, if mass piles up at the least value.
    pub fn lower(&self) -> Option<f64> {
        let (start, end) = self.ends();
        (self.shows_ends() && start < end).then_some(())?;
        let distance = |share: f64| {
            let mut sum = 0.0;
            let reached = self.points.iter().find(|(_, w)| {
                sum += w;
                sum >= share
            });
            reached.map_or(end, |(x, _)| *x) - start
        };
        (distance(0.01) <= PILED_UP * distance(0.1)).then_some(())?;
        let span = distance(SPAN / self.ess);
        // Many points at the very same value: the bound lies beyond it, by how much does not matter.
        let span = if span > 0.0 { span } else { 1e-3 * (end - start) };
        Some(roundest_below(start, span))
    }

    /// The upper end of the support, if mass piles up at the largest value.
    pub fn upper(&self) -> Option<f64> {
        let points = self.points.iter().rev().map(|(x, w)| (-x, *w)).collect();
        Self { points, ess: self.ess }.lower().map(|bound| -bound)
    }
}

/// The number of fewest digits in `[x - span, x)`, zero before all.
fn roundest_below(x: f64, span: f64) -> f64 {
    if x > 0.0 && x - span <= 0.0 {
        return 0.0;
    }
    let largest = (x.abs() + span).log10().ceil() as i32;
    for power in (largest - 17..=largest).rev() {
        let unit = 10f64.powi(power);
        let whole = (x / unit).ceil() - 1.0;
        // Through text: 3 * 0.1 is not 0.3.
        let text = format!("{whole}e{power}");
        if let Some(candidate) = text.parse().ok().filter(|c: &f64| *c < x && *c >= x - span) {
            return candidate;
        }
    }
    x - span
}

/// Points as a mixture of Gaussians.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Weighted BIC of mixtures of one to [`MAX_COMPONENTS`] Gaussians, until two in a row are worse than the best.
    pub table: Vec<SelectionRow>,
    /// Modes that the points show in the density of the best mixture.
    pub n_modes: usize,
}

/// Fits mixtures to the points.
///
/// # Errors
/// Those of a fit to the same points.
pub fn components(input: &FitInput, seed: u64) -> Result<Components, CommandError> {
    let data = prepare(input, None, None)?.data;
    let d = input.names.len();
    // As many draws as there are effective points, so that the criterion does not believe in more.
    let n = (data.effective_points().ceil() as usize).clamp(1, EM_POINTS);
    let (rows, weights): (Vec<usize>, Vec<f64>) = thinned(&data.weights, n, 0.5).into_iter().unzip();
    let x: Vec<f64> =
        rows.iter().flat_map(|row| data.x[row * d..][..d].iter().map(|v| f64::from(*v))).collect();
    let settings =
        MixtureFitSettings { n_restarts: 4, n_polish: 50, tolerance: 1e-5, ..MixtureFitSettings::default() };
    let candidates: Vec<usize> = (1..=MAX_COMPONENTS).collect();
    let selection = select_mixture(&x, &weights, d, &candidates, 2, &settings, seed, |_, _| go_on())?;
    let log_density = selection.fit.mixture.log_density(&x)?;
    let n_modes = count_modes(&x, d, &weights, &log_density, seed)?;
    Ok(Components { table: selection.table, n_modes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_host::rng::{normal_quantile, open_uniform, stream};

    /// Ends of the support that are found in `n` random draws of a distribution.
    fn ends(quantile: impl Fn(f64) -> f64, n: usize, seed: u64) -> (Option<f64>, Option<f64>) {
        let mut rng = stream(seed, "guess", 0);
        let values: Vec<f64> = (0..n).map(|_| quantile(open_uniform(&mut rng))).collect();
        let marginal = Marginal::new(values.iter().copied(), &vec![1.0; n], n as f64);
        let (lower, upper) = (marginal.lower(), marginal.upper());
        assert_eq!(marginal.n_outside(lower, upper), 0);
        (lower, upper)
    }

    #[test]
    fn an_end_is_found_where_mass_piles_up_and_nowhere_else() {
        for seed in 0..20 {
            assert_eq!(ends(|u| 10.0 * u - 5.0, 2000, seed), (Some(-5.0), Some(5.0)), "{seed}");
            assert_eq!(ends(|u| -(1.0 - u).ln(), 2000, seed), (Some(0.0), None), "{seed}");
            assert_eq!(ends(|u| 1.0 + 0.8 * normal_quantile(u), 2000, seed), (None, None), "{seed}");
        }
        assert_eq!(ends(|u| u, 900, 1), (None, None), "too few points to tell");
    }

    #[test]
    fn weightless_points_are_not_looked_at() {
        let values: Vec<f64> = (0..4000).map(|i| f64::from(i) / 1000.0 - 2.0).collect();
        let weights: Vec<f64> = values.iter().map(|x| if *x >= 0.0 { (-x).exp() } else { 0.0 }).collect();
        let marginal = Marginal::new(values.iter().copied(), &weights, 1500.0);
        assert!(marginal.lower().unwrap() < 0.0 && marginal.lower().unwrap() > -0.1);
        assert_eq!(marginal.ends().0, 0.0);
        assert_eq!(marginal.n_outside(Some(0.0), None), 1);
    }

    #[test]
    fn bounds_are_round() {
        for (x, span, expected) in [
            (-4.998, 0.05, -5.0),
            (0.0123, 0.02, 0.0),
            (0.3004, 0.001, 0.3),
            (61.23, 0.5, 61.0),
            (2.0, 0.01, 1.99),
            (0.0, 1e-4, -1e-4),
            (-1234.5678, 1e-3, -1234.568),
        ] {
            assert_eq!(roundest_below(x, span), expected, "{x} {span}");
        }
    }

    #[test]
    fn the_number_of_gaussians_is_that_of_the_points() {
        let theta: Vec<f64> = (0..3000)
            .map(|i| f64::from(i % 3) * 10.0 + normal_quantile((f64::from(i / 3) + 0.5) / 1000.0))
            .collect();
        let input = FitInput {
            names: vec!["a".into()],
            labels: vec!["a".into()],
            supports: vec![lwflow_host::outer::Support::default()],
            log_weights: vec![0.0; 3000],
            theta,
            ..FitInput::default()
        };
        let Components { table, n_modes } = components(&input, 1).unwrap();
        let best = table.iter().min_by(|a, b| a.bic.total_cmp(&b.bic)).unwrap();
        assert_eq!((best.n_components, n_modes), (3, 3), "{table:?}");
        assert_eq!(table.len(), 5, "two worse ones end the search");
    }

    #[test]
    fn a_curved_mode_is_one_mode_of_several_gaussians() {
        let mut rng = stream(3, "guess", 0);
        let mut normal = || normal_quantile(open_uniform(&mut rng));
        let theta: Vec<f64> = (0..4000)
            .flat_map(|_| {
                let (a, b) = (normal(), normal());
                [a, 2.0 * a * a + 0.3 * b]
            })
            .collect();
        let input = FitInput {
            names: vec!["a".into(), "b".into()],
            labels: vec!["a".into(), "b".into()],
            supports: vec![lwflow_host::outer::Support::default(); 2],
            log_weights: vec![0.0; 4000],
            theta,
            ..FitInput::default()
        };
        let Components { table, n_modes } = components(&input, 1).unwrap();
        let best = table.iter().min_by(|a, b| a.bic.total_cmp(&b.bic)).unwrap();
        assert!(best.n_components > 1 && n_modes == 1, "{n_modes} {table:?}");
    }
}
