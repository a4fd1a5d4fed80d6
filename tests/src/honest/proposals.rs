//! A second way to every truth: draws from a proposal made by hand for each target, with its density, and nothing of what the
//! truths are computed from. Invariant: a proposal covers its target, so that the weights have a finite variance.

use super::modes::{BOARD, COMB, FOUR, TEETH, log_round};
use super::rough::STEP;
use super::shapes::{BANANA, NEEDLE, RIDGE, SCALES, SHELL, SPHERE_5, norm, scale};
use super::{HonestTarget, log_add, log_normal};
use lwflow_host::prior::Prior;
use lwflow_host::rng::{normal_pair, open_uniform};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{PI, TAU};

/// One draw and its log density.
type Draw = (Vec<f64>, f64);

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    normal_pair(rng).0
}

fn index(rng: &mut ChaCha8Rng, n: usize) -> usize {
    (open_uniform(rng) * n as f64) as usize
}

fn uniform(rng: &mut ChaCha8Rng, dim: usize, half: f64) -> Draw {
    let theta = (0..dim).map(|_| half * (2.0 * open_uniform(rng) - 1.0)).collect();
    (theta, -(dim as f64) * (2.0 * half).ln())
}

/// A mixture of round Gaussians: weight, mean and standard deviation.
fn gaussians(rng: &mut ChaCha8Rng, parts: &[(f64, Vec<f64>, f64)]) -> Draw {
    let mut u = open_uniform(rng);
    let chosen = parts.iter().position(|p| {
        u -= p.0;
        u < 0.0
    });
    let (_, mean, sd) = &parts[chosen.unwrap_or(0)];
    let theta: Vec<f64> = mean.iter().map(|m| m + sd * normal(rng)).collect();
    let log_q = parts.iter().map(|(w, m, s)| w.ln() + log_round(&theta, m, *s));
    let log_q = log_q.fold(f64::NEG_INFINITY, log_add);
    (theta, log_q)
}

fn direction(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f64> {
    let x: Vec<f64> = (0..dim).map(|_| normal(rng)).collect();
    let r = norm(&x);
    x.iter().map(|v| v / r).collect()
}

/// Independent coordinates, each a mixture of equally likely normals.
fn teeth(rng: &mut ChaCha8Rng, dim: usize, places: &[f64], sd: f64) -> Draw {
    let mut log_q = 0.0;
    let theta = (0..dim).map(|_| {
        let x = places[index(rng, places.len())] + sd * normal(rng);
        let parts = places.iter().map(|p| log_normal(x, *p, sd)).fold(f64::NEG_INFINITY, log_add);
        log_q += parts - (places.len() as f64).ln();
        x
    });
    (theta.collect(), log_q)
}

fn cauchy(rng: &mut ChaCha8Rng, dim: usize, width: f64) -> Draw {
    let theta: Vec<f64> = (0..dim).map(|_| width * (PI * (open_uniform(rng) - 0.5)).tan()).collect();
    let log_q = theta.iter().map(|x| -(PI * width).ln() - (x / width).powi(2).ln_1p()).sum();
    (theta, log_q)
}

fn prior(rng: &mut ChaCha8Rng, target: &HonestTarget) -> Draw {
    let u: Vec<f64> = (0..target.dim()).map(|_| open_uniform(rng)).collect();
    let mut theta = vec![0.0; u.len()];
    target.prior.prior_transform(&u, &mut theta);
    let log_q = target.prior.log_prior(&theta);
    (theta, log_q)
}

/// How many draws a target's check takes.
pub(super) fn n_draws(target: &HonestTarget) -> usize {
    match target.name {
        "spiral_2d" | "nested_rings_2d" | "teeth_1d" | "lattice_2d" => 200_000,
        // The weights of noise: the relative variance is e^9.
        name if name.contains("noise") => 400_000,
        _ => 40_000,
    }
}

/// A draw from the proposal of `target`.
pub(super) fn draw(target: &HonestTarget, rng: &mut ChaCha8Rng) -> Draw {
    match target.name {
        "thin_shell_5d" => {
            let (r, w) = (SHELL.0 + 1.3 * SHELL.1 * normal(rng), 1.3 * SHELL.1);
            let theta = direction(rng, 5).iter().map(|v| r * v).collect();
            (theta, log_normal(r, SHELL.0, w) - 4.0 * r.ln() - SPHERE_5.ln())
        }
        "needle_2d" => {
            let (a, b) = (1.2 * normal(rng), 1.2 * normal(rng));
            let across = (1.0 - NEEDLE * NEEDLE).sqrt();
            let log_q = log_normal(a, 0.0, 1.2) + log_normal(b, 0.0, 1.2) - across.ln();
            (vec![a, NEEDLE * a + across * b], log_q)
        }
        "ridge_5d" => {
            let (along, sd) = (1.2 * normal(rng), 1.1 * RIDGE);
            let x: Vec<f64> = (0..5).map(|_| sd * normal(rng)).collect();
            let mean = x.iter().sum::<f64>() / 5.0;
            let square: f64 = x.iter().map(|v| ((v - mean) / sd).powi(2)).sum();
            let log_q = log_normal(along, 0.0, 1.2) - 0.5 * square - 4.0 * (sd * TAU.sqrt()).ln();
            (x.iter().map(|v| v - mean + along / 5f64.sqrt()).collect(), log_q)
        }
        "banana_2d" => {
            let (x, w) = (1.2 * normal(rng), 1.2 * BANANA.1);
            let y = BANANA.0 * x * x + w * normal(rng);
            (vec![x, y], log_normal(x, 0.0, 1.2) + log_normal(y, BANANA.0 * x * x, w))
        }
        "funnel_10d" => {
            let v = 3.5 * normal(rng);
            let sd = 1.1 / ((-v).exp() + 0.01).sqrt();
            let mut theta = vec![v];
            theta.extend((0..9).map(|_| sd * normal(rng)));
            let log_q = log_normal(v, 0.0, 3.5) + log_round(&theta[1..], &[0.0; 9], sd);
            (theta, log_q)
        }
        "ten_scales_10d" => {
            let z: Vec<f64> = (0..10).map(|_| SCALES.0 + 1.1 * normal(rng)).collect();
            let log_q = log_round(&z, &[SCALES.0; 10], 1.1) - (0..10).map(|j| scale(j).ln()).sum::<f64>();
            (z.iter().enumerate().map(|(j, z)| z * scale(j)).collect(), log_q)
        }
        "edge_3d" => {
            let theta: Vec<f64> = (0..3).map(|_| -1.3e-3 * open_uniform(rng).ln()).collect();
            let log_q = theta.iter().map(|x| -x / 1.3e-3 - 1.3e-3f64.ln()).sum();
            (theta, log_q)
        }
        "offset_3d" => gaussians(rng, &[(1.0, vec![0.0; 3], 0.12)]),
        "narrow_beside_broad_2d" => {
            gaussians(rng, &[(0.5, vec![-0.4, 0.0], 0.18), (0.5, vec![0.6, 0.3], 0.012)])
        }
        "checkerboard_2d" => {
            let (n, sd) = (BOARD.0, 1.3 * BOARD.1);
            let (row, pair) = (index(rng, n), index(rng, n / 2));
            let cell = [2 * pair + row % 2, row];
            let offset = [sd * normal(rng), sd * normal(rng)];
            let theta = [0, 1].map(|j| (cell[j] as f64 + 0.5) * 2.0 / n as f64 - 1.0 + offset[j]);
            (theta.to_vec(), log_round(&offset, &[0.0; 2], sd) - ((n * n / 2) as f64).ln())
        }
        "comb_5d" => {
            let places: Vec<f64> = (0..8).map(|k| (f64::from(k) + 0.5) / COMB.0 - 1.0).collect();
            teeth(rng, 5, &places, 0.005)
        }
        "teeth_1d" => {
            let places: Vec<f64> = (0..TEETH.0).map(|k| (k as f64 + 0.5) / TEETH.0 as f64).collect();
            teeth(rng, 1, &places, 1.3 * TEETH.1)
        }
        "four_to_the_eighth_8d" => teeth(rng, 8, &FOUR.0, 1.1 * FOUR.2),
        "far_twins_2d" => gaussians(rng, &[(0.5, vec![-900.0; 2], 1.2), (0.5, vec![900.0; 2], 1.2)]),
        "hidden_needle_2d" => gaussians(rng, &[(0.6, vec![0.0; 2], 0.3), (0.4, vec![0.5, -0.5], 1.3e-6)]),
        "hidden_twin_6d" => gaussians(rng, &[(0.5, vec![-2.0; 6], 0.55), (0.5, vec![2.0; 6], 0.022)]),
        "plateau_disk_2d" => uniform(rng, 2, 0.06),
        "plateau_ball_6d" => uniform(rng, 6, 0.5),
        "staircase_2d" => gaussians(rng, &[(0.8, vec![0.0; 2], STEP), (0.2, vec![0.0; 2], 5.0 * STEP)]),
        "half_gaussian_5d" => gaussians(rng, &[(1.0, vec![0.0; 5], 0.055)]),
        "stripe_2d" => gaussians(rng, &[(1.0, vec![0.0; 2], 0.22)]),
        "cauchy_2d" => cauchy(rng, 2, 1.5),
        "cauchy_5d" => {
            // A log-normal radius, wider than both of its limits.
            let u = 1.5 + 2.0 * normal(rng);
            let theta = direction(rng, 5).iter().map(|v| u.exp() * v).collect();
            (theta, log_normal(u, 1.5, 2.0) - 5.0 * u - SPHERE_5.ln())
        }
        "singular_2d" => {
            // The radius by its own law r^-1/2 up to the corner.
            let (corner, u) = (2f64.sqrt(), open_uniform(rng));
            let r = corner * u * u;
            let theta = direction(rng, 2).iter().map(|v| r * v).collect();
            (theta, -(2.0 * (r * corner).sqrt()).ln() - (TAU * r).ln())
        }
        "spike_2d" => gaussians(rng, &[(1.0, vec![0.3; 2], 1.3e-7)]),
        name if name.contains("noise") => gaussians(rng, &[(1.0, vec![0.0; 2], 0.12)]),
        _ => prior(rng, target),
    }
}
