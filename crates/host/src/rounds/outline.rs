//! How much work a run will be, before it: rounds, evaluations and visits of a short, of a usual long and of the longest course.
//! Invariant: a course keeps to the policy of the rounds and to their budget; which one a run takes is the likelihood's.

use super::policy;
use super::settings::RoundsSettings;

/// Rounds of a short course, tempered ones and those with flows for the posterior itself: the scan has seen it well.
const SHORT: (usize, usize) = (1, 1);
/// Those of a long but usual course: the examples take 2 to 17 rounds.
const LONG: (usize, usize) = (12, 5);

/// The work of a run of rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundsOutline {
    /// Flows trained.
    pub n_rounds: usize,
    /// Likelihood evaluations, the scan and all rounds.
    pub n_evaluations: usize,
    /// Points visited by the trainings, at most.
    pub visits: usize,
}

impl RoundsOutline {
    /// The least work for `dim` parameters with at most `max_visits` a training: of a posterior that makes no difficulties.
    pub fn short(settings: &RoundsSettings, dim: usize, max_visits: usize) -> Self {
        Self::of(SHORT, settings, dim, max_visits)
    }

    /// The work of a posterior that takes many rounds, but no more than most do.
    pub fn long(settings: &RoundsSettings, dim: usize, max_visits: usize) -> Self {
        Self::of(LONG, settings, dim, max_visits)
    }

    /// So many tempered rounds and rounds with flows for the posterior itself, as far as the budget goes. Hardly more than
    /// `target_ess` draws of the last flow are needed.
    fn of(
        (n_tempered, n_final): (usize, usize),
        settings: &RoundsSettings,
        dim: usize,
        max_visits: usize,
    ) -> Self {
        let first = policy::first_round(settings, dim);
        let left = |n: usize| settings.max_evaluations.saturating_sub(n);
        let last = ((settings.target_ess / policy::GOOD_EFFICIENCY) as usize).max(first);
        let (mut outline, mut n_round) =
            (Self { n_rounds: 0, n_evaluations: settings.scan(), visits: 0 }, first);
        for round in 1..=n_tempered + n_final {
            let beta = if round <= n_tempered { 0.0 } else { 1.0 };
            let n = if round == n_tempered + n_final { n_round.max(last) } else { n_round };
            if left(outline.n_evaluations) == 0 {
                break;
            }
            outline.n_rounds += 1;
            outline.n_evaluations += n;
            outline.visits += policy::visits(max_visits, beta);
            n_round = policy::next_round(n_round, beta, first, left(outline.n_evaluations));
        }
        outline.n_evaluations = outline.n_evaluations.min(settings.max_evaluations);
        outline
    }

    /// The longest course: the whole budget is spent in rounds that stay tempered, which is the most rounds there can be.
    pub fn longest(settings: &RoundsSettings, dim: usize, max_visits: usize) -> Self {
        let left = settings.max_evaluations.saturating_sub(settings.scan());
        let n_rounds = left.div_ceil(policy::first_round(settings, dim)).max(1);
        Self {
            n_rounds,
            n_evaluations: settings.max_evaluations,
            // Of few rounds those at the end count more.
            visits: n_rounds
                .saturating_mul(policy::visits(max_visits, 0.0))
                .max(Self::long(settings, dim, max_visits).visits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courses_keep_to_policy_and_budget() {
        let settings = RoundsSettings { max_evaluations: 100_000, target_ess: 8500.0, ..Default::default() };
        // 5000 of the scan, and rounds of 2200.
        assert_eq!(policy::first_round(&settings, 3), 2200);
        let short = RoundsOutline::short(&settings, 3, 1001);
        let n_evaluations = 5000 + 2200 + 10_000;
        assert_eq!(short, RoundsOutline { n_rounds: 2, n_evaluations, visits: 501 + 1001 });
        // Rounds with flows for the posterior grow by half.
        let long = RoundsOutline::long(&settings, 3, 1001);
        let n_evaluations = 5000 + 12 * 2200 + 2200 + 3300 + 4950 + 7425 + 11_137;
        assert_eq!(long, RoundsOutline { n_rounds: 17, n_evaluations, visits: 12 * 501 + 5 * 1001 });
        let longest = RoundsOutline::longest(&settings, 3, 1001);
        assert_eq!(longest, RoundsOutline { n_rounds: 44, n_evaluations: 100_000, visits: 44 * 501 });
        // A budget that is smaller than what the target takes ends them all.
        let small = RoundsSettings { max_evaluations: 3000, n_scan: Some(2000), ..settings };
        let outlines = [RoundsOutline::short, RoundsOutline::long, RoundsOutline::longest];
        assert_eq!(outlines.map(|of| of(&small, 3, 10).n_evaluations), [3000; 3]);
        assert_eq!(outlines.map(|of| of(&small, 3, 10).n_rounds), [2, 2, 2]);
    }
}
