//! Finds the modes of a posterior among weighted points of known density: the tree of their peaks on a graph of nearest
//! neighbours, cut where the density between two peaks falls far enough (persistence; Chazal et al. 2013, ToMATo).
//! Invariant: every point belongs to one mode; modes come in order of their mass.

use crate::HostError;
use crate::error::{check_length, n_rows};
use crate::posterior::Posterior;
use crate::rng::CounterField;
use crate::weights::thinned;
use rayon::prelude::*;

/// Points that modes are looked for among.
const N_POINTS: usize = 2000;
/// Most draws of a flow that are assigned to modes.
const N_ASSIGNED: usize = 20_000;
/// Most modes that are listed.
pub(super) const N_LISTED: usize = 64;
/// Neighbours of each point. On a line there is one way from point to point, which a single gap longer than the way to all
/// neighbours on one side would cut: among thousands of points that happens with 12, and not with 32.
const fn n_neighbours(dim: usize) -> usize {
    if dim == 1 { 32 } else { 12 }
}
/// Modes of fewer points than this that hold less than [`MIN_MASS`] are joined to their nearest.
const MIN_POINTS: usize = 5;
/// See [`MIN_POINTS`].
const MIN_MASS: f64 = 0.005;
/// Share of the weight below which [`count_modes`] does not count a mode.
const LEAST_COUNTED: f64 = 0.01;

/// Modes of weighted points.
#[derive(Debug, Clone)]
pub(super) struct Modes {
    dim: usize,
    points: Vec<f64>,
    /// Mode of each point, `[n]`.
    pub(super) mode: Vec<usize>,
    /// Number of modes.
    pub(super) n_modes: usize,
}

/// How far the log density must fall between two peaks: draws of a normal in D dimensions scatter by sqrt(D / 2) nats.
fn depth(dim: usize) -> f64 {
    1.0 + 1.5 * (dim as f64 / 2.0).sqrt()
}

impl Modes {
    /// From distinct `points`, `[n, D]`, in coordinates in which distances mean something, with log density `[n]` and
    /// weight `[n]`.
    pub(super) fn find(points: Vec<f64>, dim: usize, log_density: &[f64], weight: &[f64]) -> Self {
        let n = log_density.len();
        let near = neighbours(&points, dim, n_neighbours(dim).min(n.saturating_sub(1)));
        let mutual = |i: usize, j: usize| near[j].contains(&i);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| log_density[b].total_cmp(&log_density[a]).then(a.cmp(&b)));
        let mut seen = vec![false; n];
        let mut root: Vec<usize> = (0..n).collect();
        for &i in &order {
            seen[i] = true;
            let higher: Vec<usize> = near[i].iter().copied().filter(|&j| seen[j] && mutual(i, j)).collect();
            for j in higher {
                let (a, b) = (find(&mut root, i), find(&mut root, j));
                if a == b {
                    continue;
                }
                let (low, high) = if log_density[a] < log_density[b] { (a, b) } else { (b, a) };
                // Point i is the saddle between the two peaks.
                if log_density[low] - log_density[i] < depth(dim) {
                    root[low] = high;
                }
            }
        }
        let total: f64 = weight.iter().sum();
        let mut peaks: Vec<(usize, f64, usize)> = Vec::new();
        let of: Vec<usize> = (0..n).map(|i| find(&mut root, i)).collect();
        for (i, &r) in of.iter().enumerate() {
            match peaks.iter_mut().find(|p| p.0 == r) {
                Some(peak) => {
                    peak.1 += weight[i] / total;
                    peak.2 += 1;
                }
                None => peaks.push((r, weight[i] / total, 1)),
            }
        }
        peaks.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let kept: Vec<usize> = peaks
            .iter()
            .enumerate()
            .filter(|(k, (_, mass, n))| *k == 0 || *n >= MIN_POINTS || *mass >= MIN_MASS)
            .map(|(_, (r, _, _))| *r)
            .collect();
        let mut modes = Self { dim, points, mode: vec![usize::MAX; n], n_modes: kept.len() };
        for (i, r) in of.iter().enumerate() {
            if let Some(k) = kept.iter().position(|k| k == r) {
                modes.mode[i] = k;
            }
        }
        let lone: Vec<usize> = (0..n).filter(|&i| modes.mode[i] == usize::MAX).collect();
        let found: Vec<(usize, usize)> =
            lone.into_iter().map(|i| (i, modes.of(&modes.points[i * dim..][..dim]))).collect();
        for (i, mode) in found {
            modes.mode[i] = mode;
        }
        modes
    }

    /// The mode of the nearest point.
    pub(super) fn of(&self, x: &[f64]) -> usize {
        let mut best = (f64::INFINITY, 0);
        for (p, &mode) in self.points.chunks_exact(self.dim).zip(&self.mode) {
            if mode == usize::MAX {
                continue;
            }
            let distance: f64 = p.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum();
            if distance < best.0 {
                best = (distance, mode);
            }
        }
        best.1
    }
}

fn find(root: &mut [usize], mut i: usize) -> usize {
    while root[i] != i {
        root[i] = root[root[i]];
        i = root[i];
    }
    i
}

/// How many modes points show, `[n, D]`, in coordinates in which distances mean something: peaks of their log density `[n]`
/// between which it falls far enough, with a hundredth of the weight at least, since a few points far out look like a mode.
/// Points without weight are not looked at, and repeated ones count once; no more than 2000 are compared, chosen by their
/// weights `[n]`.
///
/// # Errors
/// [`HostError`] for lengths that do not fit.
pub fn count_modes(
    points: &[f64],
    dim: usize,
    weights: &[f64],
    log_density: &[f64],
    seed: u64,
) -> Result<usize, HostError> {
    let n = n_rows("points", points.len(), dim)?;
    for (what, got) in [("weights", weights.len()), ("log_density", log_density.len())] {
        check_length(what, got, n, "one per point")?;
    }
    let offset = CounterField::new(seed, "thin modes", 1).uniform(0, 0);
    let row = |i: usize| &points[i * dim..][..dim];
    let mut rows: Vec<(usize, f64)> = Vec::new();
    for (i, weight) in thinned(weights, N_POINTS, offset) {
        match rows.iter_mut().find(|(j, _)| row(*j) == row(i)) {
            Some((_, sum)) => *sum += weight,
            None => rows.push((i, weight)),
        }
    }
    let distinct = rows.iter().flat_map(|(i, _)| row(*i)).copied().collect();
    let density: Vec<f64> = rows.iter().map(|(i, _)| log_density[*i]).collect();
    let multiplicity: Vec<f64> = rows.iter().map(|(_, weight)| *weight).collect();
    let modes = Modes::find(distinct, dim, &density, &multiplicity);
    let mut masses = vec![0.0; modes.n_modes];
    modes.mode.iter().zip(&multiplicity).for_each(|(&mode, weight)| masses[mode] += weight);
    let total: f64 = masses.iter().sum();
    Ok(masses.iter().filter(|mass| **mass >= LEAST_COUNTED * total).count())
}

/// The modes of weighted points in the coordinates of a flow.
pub(super) struct WeightedModes<'a> {
    flow: &'a Posterior,
    modes: Modes,
    /// Share of the points' weight in each.
    pub(super) masses: Vec<f64>,
    /// Mean of the points of each, `[D]`; of an angle the one on the circle, cut open where the flow is.
    pub(super) means: Vec<Vec<f64>>,
    /// Points that they were found among.
    pub(super) n_points: usize,
}

impl<'a> WeightedModes<'a> {
    /// Those of `theta`, `[n, D]`, with weights of sum one and log density of any norm, both `[n]`. There is none if no point with
    /// weight lies inside the flow's support.
    pub(super) fn find(
        flow: &'a Posterior,
        theta: &[f64],
        weights: &[f64],
        log_density: &[f64],
        seed: u64,
    ) -> Self {
        let d = flow.dim();
        let offset = CounterField::new(seed, "thin modes", 1).uniform(0, 0);
        let rows: Vec<(usize, f64, Vec<f64>)> = thinned(weights, N_POINTS, offset)
            .into_iter()
            .filter_map(|(i, w)| coordinates(flow, &theta[i * d..][..d]).map(|x| (i, w, x)))
            .collect();
        let points = rows.iter().flat_map(|(_, _, x)| x.iter().copied()).collect();
        let density: Vec<f64> = rows.iter().map(|(i, _, _)| log_density[*i]).collect();
        let multiplicity: Vec<f64> = rows.iter().map(|(_, w, _)| *w).collect();
        let modes = Modes::find(points, d, &density, &multiplicity);
        let total: f64 = multiplicity.iter().sum();
        let (mut masses, mut means) = (vec![0.0; modes.n_modes], vec![vec![0.0; d]; modes.n_modes]);
        for ((i, w, _), &mode) in rows.iter().zip(&modes.mode) {
            masses[mode] += w / total;
            for (j, mean) in means[mode].iter_mut().enumerate() {
                *mean += w / total * flow.outer.bijections[j].unrolled(theta[i * d + j]);
            }
        }
        for (means, mass) in means.iter_mut().zip(&masses) {
            for (mean, bijection) in means.iter_mut().zip(&flow.outer.bijections) {
                *mean = bijection.rolled(*mean / mass);
            }
        }
        Self { flow, modes, masses, means, n_points: rows.len() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.modes.n_modes
    }

    /// The mode of one theta, `[D]`, inside the flow's support.
    pub(super) fn of(&self, theta: &[f64]) -> Option<usize> {
        coordinates(self.flow, theta).map(|x| self.modes.of(&x))
    }

    /// The modes of the flow's first draws, `[n, D]`.
    pub(super) fn of_draws(&self, draws: &[f64]) -> Vec<usize> {
        let rows = draws.par_chunks_exact(self.flow.dim()).take(N_ASSIGNED);
        rows.map(|theta| self.of(theta).unwrap_or(0)).collect()
    }
}

/// Coordinates of the flow; `None` outside its support.
fn coordinates(flow: &Posterior, theta: &[f64]) -> Option<Vec<f64>> {
    let mut x = vec![0.0; flow.dim()];
    flow.outer.to_flow(theta, &mut x).map(|_| x)
}

/// The `k` nearest other points of each point.
fn neighbours(points: &[f64], dim: usize, k: usize) -> Vec<Vec<usize>> {
    let n = points.len() / dim;
    (0..n)
        .into_par_iter()
        .map(|i| {
            let x = &points[i * dim..][..dim];
            let mut all: Vec<(f64, usize)> = points
                .chunks_exact(dim)
                .enumerate()
                .filter(|(j, _)| *j != i)
                .map(|(j, p)| (p.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum(), j))
                .collect();
            if k < all.len() {
                all.select_nth_unstable_by(k, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                all.truncate(k);
            }
            all.into_iter().map(|(_, j)| j).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Target;

    fn modes_of(target: Target, n: usize) -> (Modes, Vec<f64>) {
        let theta = target.sample(n, 5).unwrap();
        let log_density = target.log_prob_rows(&theta).unwrap();
        (Modes::find(theta.clone(), target.dim(), &log_density, &vec![1.0; n]), theta)
    }

    #[test]
    fn one_parameter_has_the_modes_it_has() {
        let mut normal = vec![0.0; 1000];
        for seed in 0..20 {
            CounterField::new(seed, "test", 1).fill_standard_normal(0, &mut normal);
            for (apart, n_modes) in [(0.0, 1), (5.0, 2)] {
                let points: Vec<f64> =
                    (0..1000).map(|i| normal[i] + if i % 2 == 0 { apart } else { -apart }).collect();
                let kernel = |x: f64| (-0.5 * x * x).exp();
                let density: Vec<f64> =
                    points.iter().map(|x| (kernel(x - apart) + kernel(x + apart)).ln()).collect();
                let modes = Modes::find(points, 1, &density, &[1.0; 1000]);
                assert_eq!(modes.n_modes, n_modes, "seed {seed}");
            }
        }
    }

    #[test]
    fn repeated_and_weightless_points_make_no_modes() {
        let theta = Target::Gauss2.sample(3000, 5).unwrap();
        let log_density = Target::Gauss2.log_prob_rows(&theta).unwrap();
        let count = |theta: &[f64], weights: &[f64], density: &[f64]| {
            count_modes(theta, 2, weights, density, 1).unwrap()
        };
        assert_eq!(count(&theta, &[1.0; 3000], &log_density), 2);
        // As a Markov chain stays: every point five times.
        let five = |values: &[f64], width: usize| -> Vec<f64> {
            values.chunks(width).take(600).flat_map(|row| row.repeat(5)).collect()
        };
        assert_eq!(count(&five(&theta, 2), &[1.0; 3000], &five(&log_density, 1)), 2);
        let first = Target::Gauss2.mode_of(&theta[..2]);
        let one = |row: &[f64]| f64::from(u8::from(Target::Gauss2.mode_of(row) == first));
        let weights: Vec<f64> = theta.chunks(2).map(one).collect();
        assert_eq!(count(&theta, &weights, &log_density), 1);
        assert!(count_modes(&theta, 2, &[1.0], &log_density, 1).is_err());
    }

    #[test]
    fn the_modes_of_known_targets_are_found_and_curved_ones_stay_whole() {
        for (target, n_modes) in [
            (Target::Gauss1, 1),
            (Target::Gauss2, 2),
            (Target::Gauss3, 3),
            (Target::Gauss3d, 3),
            (Target::TwoMoonsS, 2),
            (Target::Circle8, 8),
            (Target::Rings2, 2),
            (Target::Rosenbrock10, 1),
            (Target::ManyWell(3), 8),
        ] {
            let (modes, theta) = modes_of(target, 2000);
            assert_eq!(modes.n_modes, n_modes, "{}", target.name());
            // Each point goes to the mode it was found in, and modes are those of the target.
            let dim = target.dim();
            let agree = (0..2000)
                .filter(|&i| {
                    let x = &theta[i * dim..][..dim];
                    let twin = (0..2000).find(|&j| modes.mode[j] == modes.of(x)).unwrap();
                    target.mode_of(x) == target.mode_of(&theta[twin * dim..][..dim])
                })
                .count();
            assert!(agree >= 1900, "{}: {agree}", target.name());
        }
    }
}
