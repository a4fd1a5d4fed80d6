//! Targets hard by what their likelihood returns: steps, zeros, NaN, infinities, noise, heavy tails.
//! Invariant: a target without a posterior has no truth, so that nothing may be claimed of it.

use super::integrals::simpson;
use super::modes::log_round;
use super::shapes::{SPHERE_5, norm};
use super::{HonestTarget, Line, ProductPrior, Truth, log_normal, normal_mass};
use std::f64::consts::{PI, TAU};
use std::sync::atomic::{AtomicU64, Ordering};

/// Standard deviation of the noise of a log likelihood, in nats.
pub(super) const NOISE: f64 = 3.0;
/// Width of the steps of the staircase; each is two nats high.
pub(super) const STEP: f64 = 0.02;
/// Place and width of the spike.
pub(super) const SPIKE: (f64, f64) = (0.3, 1e-7);
/// Power of the radius that the singular likelihood is.
pub(super) const POWER: f64 = -1.5;
/// Rate of the lattice.
pub(super) const RATE: f64 = 7.0;

pub(super) fn targets() -> Vec<HonestTarget> {
    [steps(), tails(), noisy(), illegal()].concat()
}

fn steps() -> Vec<HonestTarget> {
    let square = || ProductPrior::cube(2, -1.0, 1.0);
    // Rings between k and k + 1 steps: areas in units of pi STEP^2.
    let terms: Vec<f64> = (0..50).map(|k| f64::from(2 * k + 1) * (-2.0 * f64::from(k)).exp()).collect();
    let sum: f64 = terms.iter().sum();
    let staircase = Truth::new((PI * STEP * STEP / 4.0 * sum).ln(), vec![1.0 / sum, 1.0 - 1.0 / sum], |t| {
        usize::from(norm(t) >= STEP)
    });
    // Of two normals with correlation 1 / sqrt 5, both positive: the orthant's angle.
    let positive = 0.5 + (1.0 / 5f64.sqrt()).asin() / PI;
    let half = Truth::new(0.5f64.ln() - 5.0 * 2f64.ln(), vec![1.0 - positive, positive], |t| {
        usize::from(t[0] > 0.0)
    });
    let gap = (normal_mass(0.0, 0.2, -1.0, 1.0) - normal_mass(0.0, 0.2, -0.1, 0.1))
        * normal_mass(0.0, 0.2, -1.0, 1.0);
    let log_pmf = |k: usize| k as f64 * RATE.ln() - RATE - (1..=k).map(|i| (i as f64).ln()).sum::<f64>();
    let table: Vec<f64> = (0..40).map(log_pmf).collect();
    let below: f64 = table[..7].iter().map(|p| p.exp()).sum();
    let all: f64 = table.iter().map(|p| p.exp()).sum();
    let cell = |x: f64| (x.max(0.0) as usize).min(39);
    vec![
        HonestTarget::new(
            "plateau_disk_2d",
            "constant on a small disk, impossible elsewhere",
            square(),
            Some(Truth::halves((PI * 0.05 * 0.05 / 4.0).ln())),
            |t| if norm(t) < 0.05 { 0.0 } else { f64::NEG_INFINITY },
        ),
        HonestTarget::new(
            "plateau_ball_6d",
            "constant on a ball of a thousandth of the prior: tempering has nothing to go by",
            ProductPrior::cube(6, -1.0, 1.0),
            Some(Truth::halves((PI.powi(3) / 6.0 * 0.5f64.powi(6) / 64.0).ln())),
            |t| if norm(t) < 0.5 { 0.0 } else { f64::NEG_INFINITY },
        ),
        HonestTarget::new("staircase_2d", "two nats down at every step", square(), Some(staircase), |t| {
            -2.0 * (norm(t) / STEP).floor().min(50.0)
        }),
        HonestTarget::new(
            "half_gaussian_5d",
            "cut through its mode by an oblique plane",
            ProductPrior::cube(5, -1.0, 1.0),
            Some(half),
            |t| if t.iter().sum::<f64>() > 0.0 { log_round(t, &[0.0; 5], 0.05) } else { f64::NEG_INFINITY },
        ),
        HonestTarget::new(
            "stripe_2d",
            "two halves with an exactly empty stripe between them",
            square(),
            Some(Truth::halves((gap / 4.0).ln())),
            |t| if t[0].abs() > 0.1 { log_round(t, &[0.0; 2], 0.2) } else { f64::NEG_INFINITY },
        ),
        HonestTarget::new(
            "lattice_2d",
            "a count as a real number: constant on unit squares",
            ProductPrior::cube(2, 0.0, 40.0),
            Some(Truth::new(2.0 * (all / 40.0).ln(), vec![below / all, 1.0 - below / all], |t| {
                usize::from(t[0] >= 7.0)
            })),
            move |t| t.iter().map(|x| table[cell(*x)]).sum(),
        ),
    ]
}

/// Log density of the round Cauchy distribution in five dimensions: Gamma(3) / (Gamma(1/2) pi^(5/2)) (1 + r^2)^-3.
fn log_cauchy_5(r: f64) -> f64 {
    2f64.ln() - 3.0 * PI.ln() - 3.0 * (r * r).ln_1p()
}

fn tails() -> Vec<HonestTarget> {
    let line_mass = 2.0 * 1e4f64.atan() / PI;
    // Over the logarithm of the radius; beyond e^9 the prior is nothing.
    let radial = simpson(
        |u| {
            let r = u.exp();
            let log_prior = 4.0 * log_normal(0.0, 0.0, 100.0) + log_normal(r, 0.0, 100.0);
            SPHERE_5 * (5.0 * u + log_cauchy_5(r) + log_prior).exp()
        },
        -14.0,
        9.0,
        20_000,
    );
    // r^POWER over the square: eight triangles, the radius integrated, of the angle a smooth function.
    let inner = 2.0 + POWER;
    let singular = 8.0 * simpson(|a| a.cos().powf(-inner) / inner, 0.0, PI / 4.0, 2000);
    let near = TAU * 0.05f64.powf(inner) / inner / singular;
    vec![
        HonestTarget::new(
            "cauchy_2d",
            "tails of two Cauchy distributions along the axes, in a box of 2e4",
            ProductPrior::cube(2, -1e4, 1e4),
            Some(Truth::halves(2.0 * (line_mass / 2e4).ln())),
            |t| t.iter().map(|x| -PI.ln() - (x * x).ln_1p()).sum(),
        ),
        HonestTarget::new(
            "cauchy_5d",
            "a round Cauchy distribution under a prior a hundred times wider",
            ProductPrior(vec![Line::Normal(0.0, 100.0); 5]),
            Some(Truth::halves(radial.ln())),
            |t| log_cauchy_5(norm(t)),
        ),
        HonestTarget::new(
            "singular_2d",
            "a density that is infinite at a point: no smooth flow has bounded weights",
            ProductPrior::cube(2, -1.0, 1.0),
            Some(Truth::new((singular / 4.0).ln(), vec![near, 1.0 - near], |t| usize::from(norm(t) > 0.05))),
            |t| POWER * norm(t).ln(),
        ),
        HonestTarget::new(
            "spike_2d",
            "one effective point: a peak as wide as f32 can tell numbers apart",
            ProductPrior::cube(2, -1.0, 1.0),
            Some(Truth::new(-2.0 * 2f64.ln(), vec![1.0], |_| 0)),
            |t| log_round(t, &[SPIKE.0; 2], SPIKE.1),
        ),
    ]
}

/// A standard normal number by hashing bits.
fn hashed_normal(mut bits: u64) -> f64 {
    // The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    lwflow_host::rng::normal_quantile(((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64)
}

fn noisy() -> Vec<HonestTarget> {
    // Noise of variance s^2 in log L lifts the mean of L by s^2 / 2 nats.
    let truth = || Some(Truth::halves(-2.0 * 2f64.ln() + 0.5 * NOISE * NOISE));
    let calls = AtomicU64::new(0);
    vec![
        HonestTarget::new(
            "noise_2d",
            "three nats of noise, another at every call",
            ProductPrior::cube(2, -1.0, 1.0),
            truth(),
            move |t| {
                log_round(t, &[0.0; 2], 0.1) + NOISE * hashed_normal(calls.fetch_add(1, Ordering::Relaxed))
            },
        ),
        HonestTarget::new(
            "frozen_noise_2d",
            "three nats of noise, always the same at one point and another at the next",
            ProductPrior::cube(2, -1.0, 1.0),
            truth(),
            |t| {
                let bits =
                    t[0].to_bits().rotate_left(23) ^ t[1].to_bits().wrapping_mul(0x2545_f491_4f6c_dd1d);
                log_round(t, &[0.0; 2], 0.1) + NOISE * hashed_normal(bits)
            },
        ),
    ]
}

fn illegal() -> Vec<HonestTarget> {
    let target = |name, why, log_likelihood: fn(&[f64]) -> f64| {
        HonestTarget::new(name, why, ProductPrior::cube(2, -1.0, 1.0), None, log_likelihood)
    };
    vec![
        target("nan_half_2d", "NaN on half of the prior", |t| {
            if t[0] < 0.0 { f64::NAN } else { log_round(t, &[0.1, 0.0], 0.1) }
        }),
        target("nan_corner_2d", "NaN on a four-hundredth of the prior, far from the mode", |t| {
            if t[0] > 0.9 && t[1] > 0.9 { f64::NAN } else { log_round(t, &[0.0; 2], 0.1) }
        }),
        target("infinite_2d", "+inf on a disk", |t| {
            if norm(t) < 0.1 { f64::INFINITY } else { log_round(t, &[0.0; 2], 0.2) }
        }),
        target("impossible_2d", "log L = -inf everywhere", |_| f64::NEG_INFINITY),
    ]
}
