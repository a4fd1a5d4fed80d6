//! How far beta may rise, how much a round draws, and when draws are better than another round.
//! Invariant: everything here follows from the settings and from what the rounds so far have shown.

use super::fresh::EssBound;
use super::report::RoundRow;
use super::settings::RoundsSettings;

/// Tempering keeps at least this share of a round as effective points.
const TEMPER_SHARE: f64 = 0.5;
/// Where beta does not rise by this factor from one round to the next, fewer effective points are asked for.
const BETA_GAIN: f64 = 1.25;
/// See [`BETA_GAIN`]: at most so many times half as many.
const MAX_HALVINGS: i32 = 4;
/// Training visits of a round that is still tempered, as a share of those of a final one.
const TEMPERED_VISITS: f64 = 0.5;
/// Effective share of fresh draws with which a flow is not worth another round.
pub(super) const GOOD_EFFICIENCY: f64 = 0.85;
/// Effective share below which draws are not worth their evaluations, unless they are sure to reach the target.
const POOR_EFFICIENCY: f64 = 0.5;
/// A flow is better than another if its effective share is larger by this factor.
const BETTER: f64 = 1.15;
/// Effective draws of a good flow, in multiples of the target, that another round must be able to make.
const ROUND_RESERVE: f64 = 1.3;
/// Growth of the rounds that draw from flows for the posterior itself.
const GROWTH: f64 = 1.5;

/// Rounds that go on although the effective size is reached, because the verdict would be bad.
pub(super) const MAX_DOUBTS: usize = 3;
/// Flows in a row whose draws may be enough but for the tail of their weights; another one would not mend it.
pub(super) const MAX_HEAVY: usize = 4;
/// Times that a training which does not stay finite is begun again, with a third of the learning rate each time.
pub(super) const MAX_RETRIES: usize = 3;

/// Evaluations of the first round.
pub(super) fn first_round(settings: &RoundsSettings, dim: usize) -> usize {
    settings.n_round.unwrap_or_else(|| (settings.max_evaluations / 25).clamp(500, 1000 + 400 * dim))
}

/// Evaluations of the round after one of `n_round` at `beta`. A flow for the posterior itself is near the end: its draws are
/// worth most, and the more of them, the better the next flow.
pub(super) fn next_round(n_round: usize, beta: f64, first_round: usize, left: usize) -> usize {
    if beta < 1.0 {
        return n_round;
    }
    ((n_round as f64 * GROWTH) as usize).min((left / 4).max(first_round))
}

/// Effective points that tempering must leave. A few heavy points, of a region that flows reach seldom, can hold beta back
/// for good: what weighs most at a higher beta is what the next flow must learn. So half as many are asked for after every
/// round that raised beta too little, and twice as many again after one that did.
pub(super) fn temper_ess(first_round: usize, rows: &[RoundRow]) -> f64 {
    let (mut best, mut halvings) = (0.0_f64, 0);
    for row in rows {
        let gained = row.beta >= (BETA_GAIN * best).min(1.0);
        halvings = if gained { (halvings - 1).max(0) } else { (halvings + 1).min(MAX_HALVINGS) };
        best = best.max(row.beta);
    }
    TEMPER_SHARE * first_round as f64 * 0.5_f64.powi(halvings)
}

/// Training visits of a round at `beta`.
pub(super) fn visits(max_visits: usize, beta: f64) -> usize {
    if beta < 1.0 { (max_visits as f64 * TEMPERED_VISITS).ceil() as usize } else { max_visits }
}

/// What to do after a flow's draws were judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The target is reached.
    Enough,
    /// Draw so many more of the same flow.
    Draw(usize),
    /// Train another flow.
    Round,
    /// The same, but nothing except the tail of the weights speaks against these draws.
    HeavyTail,
}

/// What to do after `n` draws with effective size `ess`, with `left` evaluations left; `before` are the earlier rounds.
///
/// Another round is better as long as the flows still improve and the evaluations left would do for a good one: what it
/// draws are fresh draws of the new flow, so that nothing is lost if that is the last.
pub(super) fn next(ess: &EssBound, n: usize, left: usize, target: f64, before: &[RoundRow]) -> Next {
    let Some(lower) = ess.lower.filter(|_| ess.ess > 0.0) else {
        return if ess.ess >= target { Next::HeavyTail } else { Next::Round };
    };
    if lower >= target {
        return Next::Enough;
    }
    let (n, left) = (n as f64, left as f64);
    let efficiency = ess.ess / n;
    let enough_for_another = left > ROUND_RESERVE * target / GOOD_EFFICIENCY;
    let within_reach = 1.05 * target / efficiency - n <= left;
    if (efficiency < GOOD_EFFICIENCY && enough_for_another && !stalled(before, efficiency))
        || (!within_reach && efficiency < POOR_EFFICIENCY)
    {
        return Next::Round;
    }
    // The bound comes nearer to the effective size with more draws: by steps, so that not too many are drawn.
    Next::Draw((n * (1.05 * target / lower - 1.0)).min(n).ceil() as usize)
}

/// Whether neither the last flow nor this one, with `efficiency`, is better than those for the posterior before them.
fn stalled(before: &[RoundRow], efficiency: f64) -> bool {
    let efficiencies: Vec<f64> =
        before.iter().filter(|row| row.beta >= 1.0).map(|row| row.fresh_ess / row.n_fresh as f64).collect();
    let Some((last, earlier)) = efficiencies.split_last() else { return false };
    let best = earlier.iter().copied().fold(0.0, f64::max);
    best > 0.0 && last.max(efficiency) < BETTER * best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(beta: f64, efficiency: f64) -> RoundRow {
        RoundRow {
            round: 1,
            beta,
            n_evaluations: 0,
            pooled_ess: 0.0,
            n_components: 1,
            visits: 0,
            n_fresh: 1000,
            fresh_ess: 1000.0 * efficiency,
            log_z: 0.0,
            log_z_sd: 0.0,
            posterior_ess: 0.0,
            seconds: (0.0, 0.0),
        }
    }

    #[test]
    fn beta_that_stalls_is_asked_for_less() {
        let ess = |betas: &[f64]| temper_ess(2000, &betas.iter().map(|b| row(*b, 0.5)).collect::<Vec<_>>());
        assert_eq!(ess(&[]), 1000.0);
        assert_eq!(ess(&[0.1, 0.2, 0.4]), 1000.0);
        assert_eq!(ess(&[0.1, 0.11]), 500.0);
        assert_eq!(ess(&[0.1, 0.11, 0.11, 0.2]), 500.0);
        assert_eq!(ess(&[0.1; 20]), 1000.0 / 16.0);
        assert_eq!(ess(&[0.9, 1.0, 1.0, 1.0]), 1000.0);
    }

    #[test]
    fn draws_or_another_round() {
        let next = |ess, lower, n, left, before: &[RoundRow]| {
            next(&EssBound { ess, lower }, n, left, 4000.0, before)
        };
        assert_eq!(next(900.0, None, 1000, 50_000, &[]), Next::Round);
        assert_eq!(next(4000.0, None, 5000, 50_000, &[]), Next::HeavyTail);
        assert_eq!(next(5000.0, Some(4000.0), 6000, 0, &[]), Next::Enough);
        // A good flow, a poor one, one that is as poor as those before it, and the end of the budget.
        assert_eq!(next(900.0, Some(700.0), 1000, 50_000, &[]), Next::Draw(1000));
        assert_eq!(next(300.0, Some(200.0), 1000, 50_000, &[]), Next::Round);
        let poor = [row(1.0, 0.3), row(1.0, 0.28)];
        assert_eq!(next(300.0, Some(200.0), 1000, 50_000, &poor), Next::Draw(1000));
        assert_eq!(next(400.0, Some(200.0), 1000, 50_000, &poor), Next::Round);
        assert_eq!(next(700.0, Some(600.0), 1000, 5000, &[]), Next::Draw(1000));
        assert_eq!(next(300.0, Some(200.0), 1000, 5000, &[]), Next::Round);
        assert_eq!(next(3900.0, Some(3500.0), 4300, 50_000, &[]), Next::Draw(860));
    }

    #[test]
    fn rounds_for_the_posterior_grow_within_the_budget() {
        assert_eq!(next_round(1000, 0.5, 1000, 100_000), 1000);
        assert_eq!(next_round(1000, 1.0, 1000, 100_000), 1500);
        assert_eq!(next_round(9000, 1.0, 1000, 8000), 2000);
        assert_eq!((visits(1001, 0.3), visits(1001, 1.0)), (501, 1001));
    }
}
