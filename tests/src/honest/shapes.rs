//! Targets hard by their shape: shells, ridges, funnels, spirals, scales. Invariant: every log Z is a closed form or a
//! one-dimensional integral.

use super::integrals::simpson;
use super::{HonestTarget, Line, ProductPrior, Truth, log_add, log_normal, normal_mass};
use std::f64::consts::{PI, TAU};

/// Radius and width of the shell.
pub(super) const SHELL: (f64, f64) = (0.7, 0.002);
/// Correlation of the needle.
pub(super) const NEEDLE: f64 = 0.99999;
/// Standard deviation across the ridge.
pub(super) const RIDGE: f64 = 1e-3;
/// Turns, inner radius, growth per radian and width of the spiral.
pub(super) const SPIRAL: (usize, f64, f64, f64) = (6, 0.05, 0.9 / (6.0 * TAU), 0.004);
/// Number and width of the rings.
pub(super) const RINGS: (usize, f64) = (9, 0.003);
/// Curvature and width of the banana.
pub(super) const BANANA: (f64, f64) = (5.0, 0.05);
/// Where the widths of ten scales lie, in widths, and the prior's standard deviation.
pub(super) const SCALES: (f64, f64) = (5.0, 20.0);

/// Area of the unit sphere in five dimensions.
pub(super) const SPHERE_5: f64 = 8.0 * PI * PI / 3.0;

pub(super) fn norm(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Width of parameter `j` of ten scales: 1e-6 to 1e3.
pub(super) fn scale(j: usize) -> f64 {
    10f64.powi(j as i32 - 6)
}

pub(super) fn targets() -> Vec<HonestTarget> {
    vec![
        thin_shell(),
        needle(),
        ridge(),
        spiral(),
        rings(),
        banana(),
        funnel(),
        scales(),
        edge(),
        constant(),
        offset(),
    ]
}

fn thin_shell() -> HonestTarget {
    let (r, w) = SHELL;
    // Fourth moment of a normal radius.
    let radial = w * TAU.sqrt() * (r.powi(4) + 6.0 * r * r * w * w + 3.0 * w.powi(4));
    let log_z = (SPHERE_5 * radial).ln() - 5.0 * 2f64.ln();
    HonestTarget::new(
        "thin_shell_5d",
        "no coupling flow bends a Gaussian into a closed shell three hundred times thinner than wide",
        ProductPrior::cube(5, -1.0, 1.0),
        Some(Truth::halves(log_z)),
        move |t| -0.5 * ((norm(t) - r) / w).powi(2),
    )
}

fn needle() -> HonestTarget {
    let across = (1.0 - NEEDLE * NEEDLE).sqrt();
    HonestTarget::new(
        "needle_2d",
        "correlation 0.99999",
        ProductPrior::cube(2, -8.0, 8.0),
        Some(Truth::halves(-2.0 * 16f64.ln())),
        move |t| log_normal(t[0], 0.0, 1.0) + log_normal(t[1], NEEDLE * t[0], across),
    )
}

fn ridge() -> HonestTarget {
    HonestTarget::new(
        "ridge_5d",
        "a line along the diagonal, a thousand times longer than thick",
        ProductPrior::cube(5, -8.0, 8.0),
        Some(Truth::halves(-5.0 * 16f64.ln())),
        |t| {
            let mean = t.iter().sum::<f64>() / 5.0;
            let across: f64 = t.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (RIDGE * RIDGE);
            log_normal(mean * 5f64.sqrt(), 0.0, 1.0) - 0.5 * (across + 4.0 * TAU.ln()) - 4.0 * RIDGE.ln()
        },
    )
}

/// Arm of the spiral nearest to a point, and the log likelihood.
fn spiral_at(t: &[f64]) -> (usize, f64) {
    let (turns, inner, growth, width) = SPIRAL;
    let (r, angle) = (norm(t), t[1].atan2(t[0]).rem_euclid(TAU));
    let distance = |arm: usize| (r - inner - growth * (angle + TAU * arm as f64)).abs();
    let nearest = (0..turns).fold(0, |best, arm| if distance(arm) < distance(best) { arm } else { best });
    let log_l = (0..turns).map(|arm| -0.5 * (distance(arm) / width).powi(2)).fold(f64::NEG_INFINITY, log_add);
    (nearest, log_l)
}

fn spiral() -> HonestTarget {
    let (turns, inner, growth, width) = SPIRAL;
    // Of r exp(-((r - s) / w)^2 / 2) over r: s w sqrt(2 pi); then over the angle.
    let arm = |k: usize| {
        let (from, to) = (TAU * k as f64, TAU * (k + 1) as f64);
        width * TAU.sqrt() * (inner * (to - from) + 0.5 * growth * (to * to - from * from))
    };
    let total: f64 = (0..turns).map(arm).sum();
    let masses = (0..turns).map(|k| arm(k) / total).collect();
    HonestTarget::new(
        "spiral_2d",
        "six turns of one thin line",
        ProductPrior::cube(2, -1.0, 1.0),
        Some(Truth::new((total / 4.0).ln(), masses, |t| spiral_at(t).0)),
        |t| spiral_at(t).1,
    )
}

fn rings() -> HonestTarget {
    let (n, width) = RINGS;
    let radius = |k: usize| 0.1 * (k + 1) as f64;
    let log_z = (n as f64 * width * TAU.sqrt() * TAU / 4.0).ln();
    HonestTarget::new(
        "nested_rings_2d",
        "nine closed rings of equal mass inside each other",
        ProductPrior::cube(2, -1.0, 1.0),
        Some(Truth::new(log_z, vec![1.0 / n as f64; n], move |t| {
            ((norm(t) / 0.1).round() as usize).clamp(1, n) - 1
        })),
        move |t| {
            let r = norm(t);
            let ring = |k| -0.5 * ((r - radius(k)) / width).powi(2) - radius(k).ln();
            (0..n).map(ring).fold(f64::NEG_INFINITY, log_add)
        },
    )
}

fn banana() -> HonestTarget {
    let (curvature, width) = BANANA;
    let log_z = normal_mass(0.0, 1.0, -6.0, 6.0).ln() - (12f64 * 220.0).ln();
    HonestTarget::new(
        "banana_2d",
        "a parabola 0.05 thin that climbs to 50",
        ProductPrior(vec![Line::Uniform(-6.0, 6.0), Line::Uniform(-20.0, 200.0)]),
        Some(Truth::halves(log_z)),
        move |t| log_normal(t[0], 0.0, 1.0) + log_normal(t[1], curvature * t[0] * t[0], width),
    )
}

/// Neal's funnel: the width of nine parameters, exp(v / 2), is the tenth.
fn funnel() -> HonestTarget {
    // Given v the nine integrals are those of two normals: N(0; 0, e^v + 100).
    let density =
        |v: f64| (log_normal(v, 0.0, 3.0) + 9.0 * log_normal(0.0, 0.0, (v.exp() + 100.0).sqrt())).exp();
    let parts =
        [(-36.0, -3.0), (-3.0, 3.0), (3.0, 36.0)].map(|(from, to)| simpson(density, from, to, 20_000));
    let total: f64 = parts.iter().sum();
    let mut prior = vec![Line::Normal(0.0, 10.0); 10];
    prior[0] = Line::Normal(0.0, 3.0);
    HonestTarget::new(
        "funnel_10d",
        "widths from 0.01 to 20 in one posterior",
        ProductPrior(prior),
        Some(Truth::new(total.ln(), parts.iter().map(|p| p / total).collect(), |t| {
            usize::from(t[0] > -3.0) + usize::from(t[0] > 3.0)
        })),
        |t| t[1..].iter().map(|x| log_normal(*x, 0.0, (0.5 * t[0]).exp())).sum(),
    )
}

fn scales() -> HonestTarget {
    let (place, wide) = SCALES;
    let spread = (1.0 + wide * wide).sqrt();
    let log_z = (0..10).map(|j| log_normal(place * scale(j), 0.0, spread * scale(j))).sum();
    // The posterior mean of a normal likelihood under a normal prior.
    let centre = place * scale(0) * wide * wide / (1.0 + wide * wide);
    HonestTarget::new(
        "ten_scales_10d",
        "widths from 1e-6 to 1e3 among the parameters",
        ProductPrior((0..10).map(|j| Line::Normal(0.0, wide * scale(j))).collect()),
        Some(Truth::new(log_z, vec![0.5, 0.5], move |t| usize::from(t[0] > centre))),
        move |t| t.iter().enumerate().map(|(j, x)| log_normal(*x, place * scale(j), scale(j))).sum(),
    )
}

fn edge() -> HonestTarget {
    HonestTarget::new(
        "edge_3d",
        "all mass in a thousandth of the prior at a corner of its box",
        ProductPrior::cube(3, 0.0, 1.0),
        Some(Truth::new(-3.0 * 1000f64.ln(), vec![0.5, 0.5], |t| usize::from(t[0] > t[1]))),
        |t| -1000.0 * t.iter().sum::<f64>(),
    )
}

fn constant() -> HonestTarget {
    HonestTarget::new(
        "constant_3d",
        "easy: the posterior is the prior",
        ProductPrior::cube(3, -1.0, 1.0),
        Some(Truth::halves(3.5)),
        |_| 3.5,
    )
}

fn offset() -> HonestTarget {
    HonestTarget::new(
        "offset_3d",
        "log L around -1e6, where f32 counts in sixteenths",
        ProductPrior::cube(3, -1.0, 1.0),
        Some(Truth::halves(-1e6 - 3.0 * 2f64.ln())),
        |t| t.iter().map(|x| log_normal(*x, 0.0, 0.1)).sum::<f64>() - 1e6,
    )
}
