//! Integrals that truths are made of. Invariant: of smooth functions only, with far more nodes than they need.

/// Simpson's rule with `n` intervals, `n` even.
pub(super) fn simpson(f: impl Fn(f64) -> f64, lower: f64, upper: f64, n: usize) -> f64 {
    let h = (upper - lower) / n as f64;
    let weight = |i: usize| if i == 0 || i == n { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    (0..=n).map(|i| weight(i) * f(lower + h * i as f64)).sum::<f64>() * h / 3.0
}

/// exp(-k) I_0(k), the modified Bessel function: the mean of exp(k (cos t - 1)) over a period, for which equal steps
/// converge faster than any power.
pub(super) fn scaled_bessel_i0(k: f64) -> f64 {
    let n = 4096;
    let mean: f64 =
        (0..n).map(|i| (k * ((std::f64::consts::TAU * f64::from(i) / f64::from(n)).cos() - 1.0)).exp()).sum();
    mean / f64::from(n)
}
