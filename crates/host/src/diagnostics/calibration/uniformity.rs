//! Exact tests of whether ranks are uniform: the simultaneous band of the difference of two distribution functions, and the
//! statistic of Kolmogorov and Smirnov. Invariant: p-values are probabilities of the discrete ranks, without simulation and
//! without asymptotics, down to 1e-9; below that they are upper bounds.

use crate::HostError;

/// Most places at which the distribution function of the ranks is looked at.
const MAX_PLACES: usize = 100;
/// Pointwise tail below which the union bound takes the place of the exact sum.
const LEAST_TAIL: f64 = 1e-9;
/// Relative difference up to which two tails are the same.
const SAME: f64 = 1e-9;
/// Standard deviations after which a binomial or Poisson term is nothing.
const REACH: f64 = 9.0;

/// What is known of N independent ranks that are uniform on 0..=L: at every place the number of ranks below it is binomial.
#[derive(Debug, Clone)]
pub struct UniformRanks {
    n: usize,
    n_draws: usize,
    /// Ranks below which is counted, `[K]`, ascending; the last is L + 1, below which all are.
    places: Vec<usize>,
    /// Tails of the count at every place but the last, `[K - 1]`.
    tails: Vec<Tails>,
    log_factorial: Vec<f64>,
}

/// P(X <= k) and P(X >= k) of a binomial X, for k from `first` on; outside of that stretch X does not come.
#[derive(Debug, Clone)]
struct Tails {
    first: usize,
    at_most: Vec<f64>,
    at_least: Vec<f64>,
}

impl Tails {
    fn new(n: usize, p: f64, log_factorial: &[f64]) -> Self {
        let (mean, sd) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
        let reach = REACH * sd + 20.0;
        let first = (mean - reach).max(0.0) as usize;
        let last = ((mean + reach) as usize).min(n);
        let term = |k: usize| {
            let ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k];
            (ways + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
        };
        let terms: Vec<f64> = (first..=last).map(term).collect();
        let sums = |terms: &mut dyn Iterator<Item = &f64>| {
            terms
                .scan(0.0, |sum, term| {
                    *sum += term;
                    Some(f64::min(*sum, 1.0))
                })
                .collect::<Vec<f64>>()
        };
        let at_most = sums(&mut terms.iter());
        let mut at_least = sums(&mut terms.iter().rev());
        at_least.reverse();
        Self { first, at_most, at_least }
    }

    /// Twice the smaller tail at `count`.
    fn two_sided(&self, count: usize) -> f64 {
        let Some(k) = count.checked_sub(self.first).filter(|k| *k < self.at_most.len()) else { return 0.0 };
        2.0 * self.at_most[k].min(self.at_least[k])
    }

    /// The counts whose tail on either side is more than `tail` / 2: first and last, the last below the first for none.
    fn inner(&self, tail: f64) -> (usize, usize) {
        // Tails that are equal by symmetry differ by rounding.
        let tail = tail * (1.0 + SAME);
        let below = self.at_most.partition_point(|p| 2.0 * p <= tail);
        let above = self.at_least.partition_point(|p| 2.0 * p > tail);
        (self.first + below, (self.first + above).saturating_sub(1))
    }
}

/// Counts between which all places have to lie: one pair for each.
type Bounds = Vec<(usize, usize)>;

impl UniformRanks {
    /// For `n` ranks among `n_draws` draws each.
    ///
    /// # Errors
    /// [`HostError::BadSetting`] if either is 0.
    pub fn new(n: usize, n_draws: usize) -> Result<Self, HostError> {
        for (setting, got) in [("number of ranks", n), ("number of draws", n_draws)] {
            if got == 0 {
                return Err(HostError::BadSetting { setting, got: "0".into(), expected: "at least 1" });
            }
        }
        let mut log_factorial = vec![0.0; n + 1];
        for k in 1..=n {
            log_factorial[k] = log_factorial[k - 1] + (k as f64).ln();
        }
        let values = n_draws + 1;
        let n_places = values.min(MAX_PLACES);
        let places: Vec<usize> = (1..=n_places).map(|i| i * values / n_places).collect();
        let inner = &places[..n_places - 1];
        let tails = inner.iter().map(|t| Tails::new(n, *t as f64 / values as f64, &log_factorial)).collect();
        Ok(Self { n, n_draws, places, tails, log_factorial })
    }

    /// The places as shares, `[K]`: at each, the share of ranks expected below it. The last is one.
    pub fn shares(&self) -> Vec<f64> {
        self.places.iter().map(|t| *t as f64 / (self.n_draws + 1) as f64).collect()
    }

    /// How many of `ranks`, `[N]`, lie below every place, `[K]`.
    ///
    /// # Errors
    /// [`HostError::Length`] for another number of ranks; [`HostError::BadValue`] for a rank above L.
    pub fn counts(&self, ranks: &[u32]) -> Result<Vec<usize>, HostError> {
        crate::error::check_length("ranks", ranks.len(), self.n, "one per pair")?;
        if let Some(row) = ranks.iter().position(|r| *r as usize > self.n_draws) {
            let (value, expected) = (f64::from(ranks[row]), "a rank of at most the number of draws");
            return Err(HostError::BadValue { what: "ranks", row, column: 0, value, expected });
        }
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        Ok(self.places.iter().map(|t| sorted.partition_point(|r| (*r as usize) < *t)).collect())
    }

    /// Probability that uniform ranks depart from their expectation as clearly at any one place as `counts`, `[K]`, do at
    /// their worst (Säilynoja, Bürkner & Vehtari 2022, section 2: the level of the narrowest band that holds the curve).
    pub fn band_p_value(&self, counts: &[usize]) -> f64 {
        let tails = self.tails.iter().zip(counts).map(|(tails, count)| tails.two_sided(*count));
        let least = tails.fold(f64::INFINITY, f64::min);
        if least < LEAST_TAIL {
            return (least * self.tails.len() as f64).min(1.0);
        }
        (1.0 - self.inside(&self.bounds(least))).clamp(0.0, 1.0)
    }

    /// Largest difference between the shares of `counts`, `[K]`, and those expected, with its sign; and the probability of
    /// one as large (the statistic of Kolmogorov and Smirnov over the places).
    pub fn largest_deviation(&self, counts: &[usize]) -> (f64, f64) {
        let n = self.n as f64;
        let shares = self.shares();
        let largest = counts
            .iter()
            .zip(&shares)
            .map(|(count, share)| *count as f64 - n * share)
            .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        let reach = largest.abs();
        if reach > 4.0 * n.sqrt() {
            // Dvoretzky, Kiefer & Wolfowitz with Massart's constant.
            return (largest / n, 2.0 * (-2.0 * reach * reach / n).exp());
        }
        // Strictly nearer than `reach`, which rounding must not turn into as near.
        let nearer = reach - 1e-7;
        let bounds = shares[..shares.len() - 1].iter().map(|share| {
            let (low, high) = ((n * share - nearer).ceil().max(0.0), (n * share + nearer).floor().min(n));
            // Nothing lies between where the second is below the first.
            if high < low { (1, 0) } else { (low as usize, high as usize) }
        });
        (largest / n, (1.0 - self.inside(&bounds.collect())).clamp(0.0, 1.0))
    }

    /// Shares, `[K]` each, between which the curve of uniform ranks lies at all places at once with a probability of `level`
    /// or a little more.
    pub fn band(&self, level: f64) -> Vec<(f64, f64)> {
        let (mut wide, mut narrow) = (LEAST_TAIL.ln(), 0.0);
        for _ in 0..24 {
            let middle = 0.5 * (wide + narrow);
            if self.inside(&self.bounds(f64::exp(middle))) >= level { wide = middle } else { narrow = middle }
        }
        let share = |count: usize| count as f64 / self.n as f64;
        let bounds = self.bounds(wide.exp()).into_iter().map(|(low, high)| (share(low), share(high)));
        bounds.chain([(1.0, 1.0)]).collect()
    }

    /// Counts, their expectation and the limits between which all of `n_bins` bins stay with a probability of `level` or more
    /// (Bonferroni), each in units of the expectation.
    pub fn histogram(&self, ranks: &[u32], n_bins: usize, level: f64) -> Vec<RankBin> {
        let values = self.n_draws + 1;
        let n_bins = n_bins.clamp(1, values);
        let edge = |b: usize| b * values / n_bins;
        let bin = |b: usize| {
            let (from, to) = (edge(b), edge(b + 1));
            let p = (to - from) as f64 / values as f64;
            let n = ranks.iter().filter(|r| (from..to).contains(&(**r as usize))).count();
            let expected = self.n as f64 * p;
            let (low, high) = match p < 1.0 {
                true => Tails::new(self.n, p, &self.log_factorial).inner((1.0 - level) / n_bins as f64),
                false => (self.n, self.n),
            };
            RankBin { n, expected, low: low as f64 / expected, high: high as f64 / expected }
        };
        (0..n_bins).map(bin).collect()
    }

    /// The widest bounds at which every place keeps tails above `tail` / 2.
    fn bounds(&self, tail: f64) -> Bounds {
        self.tails.iter().map(|tails| tails.inner(tail)).collect()
    }

    /// Probability that uniform ranks stay within `bounds` at all places. The counts between two places are independent
    /// Poisson numbers, given their sum: so it is a chain of convolutions (Noe 1972; Moscovich & Nadler 2017).
    fn inside(&self, bounds: &Bounds) -> f64 {
        if bounds.iter().any(|(low, high)| high < low) {
            return 0.0;
        }
        let n = self.n as f64;
        let poisson = |k: usize, mean: f64| (k as f64 * mean.ln() - mean - self.log_factorial[k]).exp();
        let all = [(self.n, self.n)];
        let (mut held, mut first, mut before) = (vec![1.0], 0, 0);
        for ((low, high), place) in bounds.iter().chain(&all).zip(&self.places) {
            let mean = n * (place - before) as f64 / (self.n_draws + 1) as f64;
            let reach = REACH * mean.sqrt() + 20.0;
            let least = (mean - reach).max(0.0) as usize;
            let most = ((mean + reach) as usize).min(self.n);
            let steps: Vec<f64> = (least..=most).map(|k| poisson(k, mean)).collect();
            let next = (*low..=*high).map(|count| {
                // From `count - most` to `count - least`, of what is held.
                let to = (count + 1).saturating_sub(least + first).min(held.len());
                let from = count.saturating_sub(most).saturating_sub(first).min(to);
                (from..to).map(|k| held[k] * steps[count - first - k - least]).sum::<f64>()
            });
            held = next.collect();
            (first, before) = (*low, *place);
        }
        held[0] / poisson(self.n, n)
    }
}

/// A bar of a histogram of ranks.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RankBin {
    /// Ranks in it.
    pub n: usize,
    /// Ranks expected in it.
    pub expected: f64,
    /// Lower limit, in units of `expected`.
    pub low: f64,
    /// Upper limit, in units of `expected`.
    pub high: f64,
}

/// Adjusts p-values, `[n]`, for their number (Holm 1979): a value of at most alpha says that its test fails, while the
/// probability that any test fails wrongly is at most alpha.
///
/// ```
/// let adjusted = lwflow_host::diagnostics::calibration::holm(&[0.01, 0.5, 0.03]);
/// assert_eq!(adjusted, [0.03, 0.5, 0.06]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (k, at) in order.into_iter().enumerate() {
        largest = largest.max((p_values.len() - k) as f64 * p_values[at]).min(1.0);
        adjusted[at] = largest;
    }
    adjusted
}
