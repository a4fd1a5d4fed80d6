//! Where the circle of a periodic parameter is cut open: as far from the weighted mass as can be. Invariant: the cut follows
//! from the points and the earlier cut alone, for any mass: a full circle and equal gaps are decided like all others.

/// Places that are tried.
const BINS: usize = 512;
/// Where the pull of a point flattens off, as a share of the period: about the width in which an edge bends.
const CORE: f64 = 1.0 / 128.0;
/// An earlier cut stays while it is at most this crowded, evenly spread mass being 1: a moved cut takes the modes apart
/// anew, and layers that were trained for the old order are no start any more.
const CLEAR: f64 = 0.01;
/// Or while it is at most so many times as crowded as the best place.
const CLOSE: f64 = 2.0;

/// The cut of the circle between `lower` and `upper` for points (x, w) inside, w of sum one; `earlier` is a cut to keep if
/// it is still a good one.
pub(super) fn cut((lower, upper): (f64, f64), points: &[(f64, f64)], earlier: Option<f64>) -> f64 {
    let bin = |x: f64| (((x - lower) / (upper - lower) * BINS as f64) as usize).min(BINS - 1);
    let mut mass = [0.0; BINS];
    for &(x, w) in points {
        mass[bin(x)] += w;
    }
    let crowding = crowding(&mass);
    let best = (0..BINS).fold(0, |best, b| if crowding[b] < crowding[best] { b } else { best });
    let is_good = |cut: &f64| crowding[bin(*cut)] <= CLEAR.max(CLOSE * crowding[best]);
    let inside = |cut: &f64| lower <= *cut && *cut < upper;
    let middle = lower + (best as f64 + 0.5) / BINS as f64 * (upper - lower);
    earlier.filter(inside).filter(is_good).unwrap_or(middle)
}

/// Mass around every bin: each point counts as 1 / (d^2 + CORE^2)^2 at a distance of d periods, in units of the mean over
/// the circle. It is the local density where there is mass, and falls towards the middle of every gap, however wide.
fn crowding(mass: &[f64; BINS]) -> [f64; BINS] {
    let mut kernel = [0.0; BINS];
    for (k, value) in kernel.iter_mut().enumerate() {
        let d = k.min(BINS - k) as f64 / BINS as f64;
        *value = (d * d + CORE * CORE).powi(-2);
    }
    let mean = kernel.iter().sum::<f64>() / BINS as f64;
    std::array::from_fn(|b| (0..BINS).map(|k| mass[k] * kernel[(b + BINS - k) % BINS]).sum::<f64>() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::normal_quantile;
    use std::f64::consts::{PI, TAU};

    const CIRCLE: (f64, f64) = (0.0, TAU);

    /// Quantiles of a wrapped normal.
    fn mode(mean: f64, sd: f64, share: f64) -> Vec<(f64, f64)> {
        let at = |i: i32| (mean + sd * normal_quantile((f64::from(i) + 0.5) / 2000.0)).rem_euclid(TAU);
        (0..2000).map(|i| (at(i), share / 2000.0)).collect()
    }

    #[test]
    fn the_cut_lies_in_the_gap() {
        // A mode across the bounds: opposite to it.
        for sd in [1e-9, 0.01, 0.2, 0.8] {
            let cut = cut(CIRCLE, &mode(0.0, sd, 1.0), None);
            assert!((cut - PI).abs() < 0.03, "{sd}: {cut}");
        }
        // Two modes: the wider of the two gaps, about its middle.
        let two = [mode(0.0, 0.1, 0.5), mode(2.0, 0.1, 0.5)].concat();
        let found = cut(CIRCLE, &two, None);
        assert!((found - (2.0 + TAU) / 2.0).abs() < 0.1, "{found}");
        // A small, narrow mode in the middle of the gap is not cut in two.
        let small = [mode(0.0, 0.2, 0.999), mode(PI, 0.02, 0.001)].concat();
        let found = cut(CIRCLE, &small, None);
        assert!(
            (found - PI).abs() > 0.15 && !(0.9..=TAU - 0.9).contains(&(found + PI).rem_euclid(TAU)),
            "{found}"
        );
        // Sixteen of them: between two.
        let many: Vec<_> = (0..16).flat_map(|k| mode(f64::from(k) * TAU / 16.0, 0.03, 1.0 / 16.0)).collect();
        let phase = cut(CIRCLE, &many, None).rem_euclid(TAU / 16.0) / (TAU / 16.0);
        assert!((0.3..0.7).contains(&phase), "{phase}");
    }

    #[test]
    fn mass_everywhere_is_cut_where_it_is_least() {
        let density = |x: f64| (1.0 + 0.9 * (x - 1.0).cos()) / 1000.0;
        let points: Vec<(f64, f64)> =
            (0..1000).map(|i| (f64::from(i) + 0.5) * TAU / 1000.0).map(|x| (x, density(x))).collect();
        let found = cut(CIRCLE, &points, None);
        assert!((found - 1.0 - PI).abs() < 0.1, "{found}");
        let even: Vec<(f64, f64)> = points.iter().map(|(x, _)| (*x, 1e-3)).collect();
        let found = cut(CIRCLE, &even, None);
        assert!((0.0..TAU).contains(&found) && found == cut(CIRCLE, &even, None));
    }

    #[test]
    fn an_earlier_cut_is_kept_until_mass_comes_near() {
        let points = mode(0.0, 0.1, 1.0);
        assert_eq!(cut(CIRCLE, &points, Some(1.5)), 1.5);
        assert_ne!(cut(CIRCLE, &points, Some(0.3)), 0.3);
        assert_eq!(cut(CIRCLE, &points, Some(7.0)), cut(CIRCLE, &points, None));
    }
}
