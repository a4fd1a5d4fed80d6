//! Targets hard by their modes: narrow, many, far apart, hidden. Invariant: a mode's mass outside its own part of the space
//! is below 1e-9, so its share is exact.

use super::integrals::scaled_bessel_i0;
use super::{Hidden, HonestTarget, ProductPrior, Truth, log_add, log_normal, normal_mass};
use std::f64::consts::{PI, TAU};

/// Cells of the checkerboard along a side and the width of the peak in each black one.
pub(super) const BOARD: (usize, f64) = (40, 5e-4);
/// Periods per unit length and concentration of the comb.
pub(super) const COMB: (f64, f64) = (4.0, 100.0);
/// Number and width of the teeth.
pub(super) const TEETH: (usize, f64) = (200, 2e-5);
/// Places, weights and width of four peaks.
pub(super) const FOUR: ([f64; 4], [f64; 4], f64) = ([-0.75, -0.25, 0.25, 0.75], [0.1, 0.2, 0.3, 0.4], 0.02);

/// Log density of a round Gaussian.
pub(super) fn log_round(t: &[f64], mean: &[f64], sd: f64) -> f64 {
    t.iter().zip(mean).map(|(x, m)| log_normal(*x, *m, sd)).sum()
}

pub(super) fn targets() -> Vec<HonestTarget> {
    vec![
        narrow_beside_broad(),
        checkerboard(),
        comb(),
        teeth(),
        four_to_the_eighth(),
        far_twins(),
        hidden_needle(),
        hidden_twin(),
    ]
}

fn narrow_beside_broad() -> HonestTarget {
    // The narrow peak lies inside by forty of its widths.
    let inside = normal_mass(-0.4, 0.15, -1.0, 1.0) * normal_mass(0.0, 0.15, -1.0, 1.0);
    let masses = vec![inside / (1.0 + inside), 1.0 / (1.0 + inside)];
    HonestTarget::new(
        "narrow_beside_broad_2d",
        "half of the mass in a peak that holds 7e-4 of the prior",
        ProductPrior::cube(2, -1.0, 1.0),
        Some(Truth::new((0.5 * (1.0 + inside)).ln() - 4f64.ln(), masses, |t| {
            usize::from((t[0] - 0.6).hypot(t[1] - 0.3) < 0.08)
        })),
        |t| 0.5f64.ln() + log_add(log_round(t, &[-0.4, 0.0], 0.15), log_round(t, &[0.6, 0.3], 0.01)),
    )
}

/// Column and row of a point's cell, and its place from the centre.
pub(super) fn board_cell(t: &[f64]) -> ([usize; 2], [f64; 2]) {
    let width = 2.0 / BOARD.0 as f64;
    let cell = [0, 1].map(|j| (((t[j] + 1.0) / width) as usize).min(BOARD.0 - 1));
    let offset = [0, 1].map(|j| t[j] + 1.0 - width * (cell[j] as f64 + 0.5));
    (cell, offset)
}

fn checkerboard() -> HonestTarget {
    let (n, sd) = BOARD;
    let log_z = ((n * n / 2) as f64 * TAU * sd * sd / 4.0).ln();
    HonestTarget::new(
        "checkerboard_2d",
        "800 tiny peaks on the black cells, nothing on the white ones",
        ProductPrior::cube(2, -1.0, 1.0),
        Some(Truth::new(log_z, vec![0.25; 4], |t| usize::from(t[0] > 0.0) + 2 * usize::from(t[1] > 0.0))),
        move |t| match board_cell(t) {
            ([column, row], [x, y]) if (column + row) % 2 == 0 => -0.5 * (x * x + y * y) / (sd * sd),
            _ => f64::NEG_INFINITY,
        },
    )
}

fn comb() -> HonestTarget {
    let (periods, k) = COMB;
    let log_z = 5.0 * scaled_bessel_i0(k).ln();
    HonestTarget::new(
        "comb_5d",
        "32,768 equal peaks",
        ProductPrior::cube(5, -1.0, 1.0),
        Some(Truth::new(log_z, vec![0.25; 4], |t| ((2.0 * (t[0] + 1.0)) as usize).min(3))),
        move |t| t.iter().map(|x| -k * ((TAU * periods * x).cos() + 1.0)).sum(),
    )
}

/// Relative weight of tooth `k`.
pub(super) fn tooth_weight(k: usize) -> f64 {
    1.0 + (k % 3) as f64
}

fn teeth() -> HonestTarget {
    let (n, sd) = TEETH;
    let nearest = move |x: f64| ((x * n as f64) as usize).min(n - 1);
    let total: f64 = (0..n).map(tooth_weight).sum();
    let masses = (0..3).map(|r| (r..n).step_by(3).map(tooth_weight).sum::<f64>() / total).collect();
    HonestTarget::new(
        "teeth_1d",
        "200 teeth that hold a hundredth of the line",
        ProductPrior::cube(1, 0.0, 1.0),
        Some(Truth::new(0.0, masses, move |t| nearest(t[0]) % 3)),
        move |t| {
            let k = nearest(t[0]);
            (tooth_weight(k) / total).ln() + log_normal(t[0], (k as f64 + 0.5) / n as f64, sd)
        },
    )
}

fn four_to_the_eighth() -> HonestTarget {
    let (places, weights, sd) = FOUR;
    let line = move |x: f64| {
        let peak = |k: usize| weights[k].ln() + log_normal(x, places[k], sd);
        (0..4).map(peak).fold(f64::NEG_INFINITY, log_add)
    };
    HonestTarget::new(
        "four_to_the_eighth_8d",
        "65,536 peaks of unequal mass",
        ProductPrior::cube(8, -1.0, 1.0),
        Some(Truth::new(-8.0 * 2f64.ln(), weights.to_vec(), |t| ((2.0 * (t[0] + 1.0)) as usize).min(3))),
        move |t| t.iter().map(|x| line(*x)).sum(),
    )
}

fn far_twins() -> HonestTarget {
    HonestTarget::new(
        "far_twins_2d",
        "two peaks that hold a millionth of the prior and lie 2,500 widths apart",
        ProductPrior::cube(2, -1000.0, 1000.0),
        Some(Truth::new(-2.0 * 2000f64.ln(), vec![0.7, 0.3], |t| usize::from(t[0] + t[1] > 0.0))),
        |t| {
            let (low, high) = (log_round(t, &[-900.0, -900.0], 1.0), log_round(t, &[900.0, 900.0], 1.0));
            log_add(0.7f64.ln() + low, 0.3f64.ln() + high)
        },
    )
}

fn hidden_needle() -> HonestTarget {
    let inside = normal_mass(0.0, 0.25, -1.0, 1.0).powi(2);
    let log_broad = (0.7 * inside).ln() - 4f64.ln();
    let total = 0.7 * inside + 0.3;
    let mode_of = |t: &[f64]| usize::from((t[0] - 0.5).hypot(t[1] + 0.5) < 1e-4);
    let truth = Truth::new(total.ln() - 4f64.ln(), vec![0.7 * inside / total, 0.3 / total], mode_of);
    let mut target = HonestTarget::new(
        "hidden_needle_2d",
        "0.3 of the mass in a peak that nothing points to",
        ProductPrior::cube(2, -1.0, 1.0),
        Some(truth),
        |t| {
            let needle = log_round(t, &[0.5, -0.5], 1e-6);
            log_add(0.7f64.ln() + log_round(t, &[0.0, 0.0], 0.25), 0.3f64.ln() + needle)
        },
    );
    // It stands out of the broad peak within seven of its widths.
    let prior_mass = PI * 7e-6f64.powi(2) / 4.0;
    target.hidden = Some(Hidden { prior_mass, visible: Truth::new(log_broad, vec![1.0, 0.0], mode_of) });
    target
}

fn hidden_twin() -> HonestTarget {
    let (broad, narrow) = ([-2.0; 6], [2.0; 6]);
    let inside = normal_mass(-2.0, 0.5, -4.0, 4.0).powi(6);
    let mode_of = |t: &[f64]| usize::from(t.iter().sum::<f64>() > 9.0);
    let total = 0.5 * (1.0 + inside);
    let log_box = 6.0 * 8f64.ln();
    let truth = Truth::new(total.ln() - log_box, vec![0.5 * inside / total, 0.5 / total], mode_of);
    let mut target = HonestTarget::new(
        "hidden_twin_6d",
        "two equal modes, one of them a billion times smaller",
        ProductPrior::cube(6, -4.0, 4.0),
        Some(truth),
        move |t| 0.5f64.ln() + log_add(log_round(t, &broad, 0.5), log_round(t, &narrow, 0.02)),
    );
    // Beyond a distance of 0.4 from the narrow mode the tail of the broad one is higher. Volume of that ball, of the box.
    let prior_mass = PI.powi(3) / 6.0 * 0.4f64.powi(6) / 8f64.powi(6);
    let visible = Truth::new((0.5 * inside).ln() - log_box, vec![1.0, 0.0], mode_of);
    target.hidden = Some(Hidden { prior_mass, visible });
    target
}
