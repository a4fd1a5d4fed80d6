//! Posterior weights and evidence of a nested sampling run from the log L and birth contour of its points.
//! Only the order of contours enters: runs with any scheme of live points, merged runs and runs with or without their
//! last live points are treated alike. Invariant: every point lies above its birth contour.

use super::error::FileError;
use super::pairs::{LogZ, log_sum_exp};

/// Weights of a nested sampling run. Vectors are `[n]`; those marked "sorted" go from the lowest log L to the highest.
#[derive(Debug, Clone)]
pub struct NestedWeights {
    /// Row of the input at each sorted position.
    pub order: Vec<usize>,
    /// Sorted: number of live points just before this one dies.
    pub n_live: Vec<usize>,
    /// Sorted: expected log of the prior volume above the contour, after this point has died.
    pub log_x: Vec<f64>,
    /// In input order: log L + log of the shell's volume; their sum is Z.
    pub log_weights: Vec<f64>,
    /// Evidence in nats.
    pub log_z: LogZ,
    /// Kullback-Leibler divergence of the posterior from the prior, in nats.
    pub information: f64,
}

/// What is told of a nested sampling run.
#[derive(Debug, Clone, PartialEq)]
pub struct NestedReport {
    /// Dead points read.
    pub n_dead: usize,
    /// Live points read.
    pub n_live: usize,
    /// Points left out, as their log L is not above their birth contour.
    pub n_dropped: usize,
    /// Largest number of live points at any contour.
    pub n_live_largest: usize,
    /// Evidence in nats.
    pub log_z: LogZ,
    /// Kullback-Leibler divergence of the posterior from the prior, in nats.
    pub information: f64,
}

/// Weights from log L `[n]` and birth contours `[n]` (-inf for draws of the whole prior), dead and live points together.
///
/// The number of live points at the death of point i is the count of points born below log L_i less those already dead;
/// points of equal log L die one after another (Fowlie, Handley, Su 2021). Volumes shrink by the expected log of a
/// Beta(n_i, 1) draw, log X_i = log X_{i-1} - 1/n_i, and shells follow the trapezium rule (X_{i-1} - X_{i+1})/2 (Skilling
/// 2006, section 4). The error of log Z comes from the exact second moment of Z over the volumes (Keeton 2011, section
/// 3; Handley, Hobson, Lasenby 2015, appendix B), taking Z as log-normal.
///
/// # Errors
/// [`FileError::BadTable`] if the lengths differ, if there is no point, or for a point that is not above its birth.
///
/// ```
/// use lwflow_host::files::nested_weights;
/// // Two draws of the prior; a third is born when the first dies.
/// let prior = f64::NEG_INFINITY;
/// let nested = nested_weights(&[-3.0, -1.0, -0.5], &[prior, prior, -3.0])?;
/// assert_eq!(nested.n_live, [2, 2, 1]);
/// # Ok::<(), lwflow_host::files::FileError>(())
/// ```
pub fn nested_weights(log_l: &[f64], birth: &[f64]) -> Result<NestedWeights, FileError> {
    let bad = |what: &str, got, expected| FileError::BadTable { what: what.to_owned(), got, expected };
    let n = log_l.len();
    if birth.len() != n {
        return Err(bad("birth contours", birth.len(), n));
    }
    // Comparisons with NaN are false, so NaN does not pass either.
    let valid = log_l.iter().zip(birth).filter(|(l, b)| l > b && **l < f64::INFINITY).count();
    if valid != n || n == 0 {
        return Err(bad("set of points above their birth contour", valid, n.max(1)));
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| log_l[*a].total_cmp(&log_l[*b]));
    let mut births = birth.to_vec();
    births.sort_by(f64::total_cmp);

    let mut born = 0;
    let mut n_live = Vec::with_capacity(n);
    for (dead, row) in order.iter().enumerate() {
        while born < n && births[born] < log_l[*row] {
            born += 1;
        }
        n_live.push(born - dead); // at least one: this point and all before it were born below here
    }
    let log_x: Vec<f64> = n_live
        .iter()
        .scan(0.0, |log_x, live| {
            *log_x -= 1.0 / *live as f64;
            Some(*log_x)
        })
        .collect();
    let mut log_weights = vec![f64::NEG_INFINITY; n];
    for (i, row) in order.iter().enumerate() {
        let outer = if i == 0 { 0.0 } else { log_x[i - 1] };
        let inner = log_x.get(i + 1).copied().unwrap_or(f64::NEG_INFINITY);
        let log_shell = outer + (-(inner - outer).exp()).ln_1p() - std::f64::consts::LN_2;
        log_weights[*row] = log_l[*row] + log_shell;
    }
    let log_z = log_sum_exp(&log_weights);
    let weighted = log_weights.iter().zip(log_l).filter(|(lw, _)| lw.is_finite());
    let information = weighted.map(|(lw, l)| (lw - log_z).exp() * l).sum::<f64>() - log_z;
    let sd = log_z_sd(order.iter().zip(&n_live).map(|(row, live)| (log_l[*row], *live as f64)));
    Ok(NestedWeights { order, n_live, log_x, log_weights, log_z: LogZ { log_z, sd }, information })
}

/// Standard error of log Z from E[Z] and E[Z^2], carried through the run point by point (log L, live points).
fn log_z_sd(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let add = |a: f64, b: f64| log_sum_exp(&[a, b]);
    let (mut log_x, mut log_xx) = (0.0, 0.0); // E[X], E[X^2]
    let (mut log_z, mut log_zz, mut log_zx) = (f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);
    for (l, n) in points {
        let (ln, ln1, ln2) = (n.ln(), (n + 1.0).ln(), (n + 2.0).ln());
        log_zz = add(log_zz, std::f64::consts::LN_2 + add(log_zx + l - ln1, log_xx + 2.0 * l - ln1 - ln2));
        log_zx = add(log_zx + ln - ln1, log_xx + l + ln - ln1 - ln2);
        log_z = add(log_z, log_x + l - ln1);
        log_xx += ln - ln2;
        log_x += ln - ln1;
    }
    (log_zz - 2.0 * log_z).max(0.0).sqrt()
}
