//! Densities of weighted points in one and two dimensions: histograms smoothed with a Gaussian kernel that is corrected at
//! the bounds of the support. The kernel width falls with the effective number of points as in Scott's rule (1992), its
//! scale is that of the smallest region that holds 68 % of the weight, so that separated modes are not smeared together.

use super::axis::Span;
use std::borrow::Borrow;

/// Share of the mass inside one and two standard deviations of a one-dimensional Gaussian.
pub(super) const LEVELS: [f64; 2] = [0.6827, 0.9545];

const N_1: usize = 256;
const N_2: usize = 128;

/// Points of one parameter, or of two, with their weights; all finite.
pub(super) struct Cloud {
    pub(super) columns: Vec<Vec<f64>>,
    pub(super) weights: Vec<f64>,
    /// Rows left out because a value is not finite or a weight is negative.
    pub(super) n_left_out: usize,
}

impl Cloud {
    /// `theta` is `[n, dim]`; the first `n_columns` parameters are kept. Rows of weight zero go silently.
    pub(super) fn new(theta: &[f64], dim: usize, n_columns: usize, weights: Option<&[f64]>) -> Self {
        let mut cloud = Self { columns: vec![Vec::new(); n_columns], weights: Vec::new(), n_left_out: 0 };
        let largest = weights.unwrap_or(&[1.0]).iter().copied().filter(|w| w.is_finite()).fold(0.0, f64::max);
        for (i, row) in theta.chunks_exact(dim.max(1)).enumerate() {
            let weight = weights.map_or(1.0, |w| w[i]);
            let shown = &row[..n_columns];
            if !weight.is_finite() || weight < 0.0 || shown.iter().any(|x| !x.is_finite()) {
                cloud.n_left_out += 1;
            } else if weight > 0.0 {
                // Relative to the largest, sums and squares neither overflow nor vanish.
                cloud.weights.push(weight / largest);
                for (column, &x) in cloud.columns.iter_mut().zip(shown) {
                    column.push(x);
                }
            }
        }
        cloud
    }

    pub(super) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Kish's effective number of points.
    pub(super) fn ess(&self) -> f64 {
        let sum: f64 = self.weights.iter().sum();
        let squares: f64 = self.weights.iter().map(|w| w * w).sum();
        if squares > 0.0 { sum * sum / squares } else { 0.0 }
    }

    /// Weighted quantiles of a parameter at a share of the weight cut from both ends.
    pub(super) fn range(&self, column: usize, cut: f64) -> Option<(f64, f64)> {
        let values = &self.columns[column];
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let total: f64 = self.weights.iter().sum();
        let quantile = |mut order: Box<dyn Iterator<Item = usize> + '_>| {
            let mut sum = 0.0;
            order
                .find(|&i| {
                    sum += self.weights[i];
                    sum > cut * total
                })
                .map(|i| values[i])
        };
        let low = quantile(Box::new(order.iter().copied()))?;
        let high = quantile(Box::new(order.iter().rev().copied()))?;
        Some((low, high))
    }
}

/// A smoothed density on the centres of `N` equal cells.
pub(super) struct Density1 {
    pub(super) values: Vec<f64>,
    /// Extent of the smallest region that holds 68 % of the weight, over that of a Gaussian of unit scale.
    scale: f64,
}

/// The number of points by which all clouds of a figure are smoothed, so that what differs between them is not the
/// smoothing: that of the poorest, but no fewer than a thousand if any has so many.
pub(super) fn common_ess<C: Borrow<Cloud>>(clouds: &[C]) -> f64 {
    let sizes = || clouds.iter().map(Borrow::borrow).filter(|c| !c.is_empty()).map(Cloud::ess);
    let (least, most) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(1.0, f64::max));
    least.max(1000.0).min(most)
}

/// Which ends of a span are bounds of the support.
pub(super) type Walls = (bool, bool);

/// Density of a parameter over the span, integrating to one over it (in units of the parameter), smoothed as fits
/// `n_effective` points.
pub(super) fn density_1(
    cloud: &Cloud,
    column: usize,
    span: Span,
    walls: Walls,
    n_effective: f64,
) -> Density1 {
    let mut cells = vec![0.0; N_1];
    for (&x, &w) in cloud.columns[column].iter().zip(&cloud.weights) {
        if let Some(i) = cell(span, x, N_1) {
            cells[i] += w;
        }
    }
    let ess = cloud.ess().max(1.0);
    // A coarse histogram, about ten effective points per cell, measures the scale.
    let coarse: Vec<f64> = cells.chunks(coarsening(ess, N_1, 1)).map(|c| c.iter().sum()).collect();
    let scale = size_of_share(&coarse, LEVELS[0]) * span.extent() / (2.0 * coarse.len() as f64);
    let width = (0.9 * scale * n_effective.max(1.0).powf(-0.2) / span.extent()).clamp(0.0, 0.1) * N_1 as f64;
    let mut values = smooth(&cells, 1, N_1, width.max(1.0), walls);
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        let norm = N_1 as f64 / (sum * span.extent());
        values.iter_mut().for_each(|v| *v *= norm);
    }
    Density1 { values, scale }
}

/// A smoothed density on the centres of `n` by `n` equal cells, row by row from the bottom, and its contour levels.
pub(super) struct Density2 {
    pub(super) n: usize,
    pub(super) values: Vec<f64>, // (n, n): y, x
}

/// Density of parameters `x` and `y`, summing to one, smoothed as fits `n_effective` points;
/// `scales` are the densities of the two alone.
pub(super) fn density_2(
    cloud: &Cloud,
    (x, y): (usize, usize),
    spans: (Span, Span),
    walls: (Walls, Walls),
    scales: (&Density1, &Density1),
    n_effective: f64,
) -> Density2 {
    let n = N_2;
    let mut cells = vec![0.0; n * n];
    for ((&vx, &vy), &w) in cloud.columns[x].iter().zip(&cloud.columns[y]).zip(&cloud.weights) {
        if let (Some(i), Some(j)) = (cell(spans.0, vx, n), cell(spans.1, vy, n)) {
            cells[j * n + i] += w;
        }
    }
    let ess = cloud.ess().max(1.0);
    let (sx, sy) = (scales.0.scale / spans.0.extent(), scales.1.scale / spans.1.extent());
    // Narrow diagonal or curved shapes fill less area than their sides say.
    let k = coarsening(ess, n, 2);
    let side = n.div_ceil(k);
    let mut coarse = vec![0.0; side * side];
    for (index, w) in cells.iter().enumerate() {
        coarse[(index / n / k) * side + (index % n) / k] += w;
    }
    // The 68 % region of a Gaussian has the area pi s_x s_y times the chi-squared quantile of two degrees, 2.2958.
    let area = size_of_share(&coarse, LEVELS[0]) / (side * side) as f64;
    let box_area = std::f64::consts::PI * 2.2958 * sx * sy;
    let narrow = if box_area > 0.0 { (area / box_area).sqrt().clamp(0.3, 1.0) } else { 1.0 };
    let rule = 1.1 * narrow * n_effective.max(1.0).powf(-1.0 / 6.0);
    let width = |s: f64| ((rule * s).clamp(0.0, 0.1) * n as f64).max(0.8);
    let along_x = smooth(&cells, n, n, width(sx), walls.0);
    let mut values = transpose(&smooth(&transpose(&along_x, n), n, n, width(sy), walls.1), n);
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
    Density2 { n, values }
}

impl Density2 {
    /// The density above which lies a share of the mass.
    pub(super) fn level(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let target = share * sorted.iter().sum::<f64>();
        let mut sum = 0.0;
        let level = sorted.iter().copied().find(|v| {
            sum += v;
            sum >= target
        });
        // Never zero: an empty density has no contour.
        level.unwrap_or(0.0).max(f64::MIN_POSITIVE)
    }

    /// Density at shares of the spans, linear between the centres of the cells.
    pub(super) fn at(&self, x: f64, y: f64) -> f64 {
        bilinear(&self.values, (self.n, self.n), x, y)
    }
}

/// Value at shares `(x, y)` of a grid of cells `(n_x, n_y)`, rows from the bottom, linear between the centres.
pub(super) fn bilinear(values: &[f64], (n_x, n_y): (usize, usize), x: f64, y: f64) -> f64 {
    let place = |share: f64, n: usize| {
        let p = (share * n as f64 - 0.5).clamp(0.0, (n - 1) as f64);
        let low = (p as usize).min(n.saturating_sub(2));
        (low, (low + 1).min(n - 1), p - low as f64)
    };
    let (x0, x1, fx) = place(x, n_x);
    let (y0, y1, fy) = place(y, n_y);
    let row = |j: usize| lerp(values[j * n_x + x0], values[j * n_x + x1], fx);
    lerp(row(y0), row(y1), fy)
}

fn lerp(a: f64, b: f64, t: f64) -> f64 {
    if t == 0.0 { a } else { a + t * (b - a) }
}

fn cell(span: Span, x: f64, n: usize) -> Option<usize> {
    let share = span.share(x);
    (0.0..=1.0).contains(&share).then(|| ((share * n as f64) as usize).min(n - 1))
}

/// Number of cells to join (a power of two) so that a histogram of `ess` points is not mostly noise.
fn coarsening(ess: f64, n: usize, dim: i32) -> usize {
    let wanted = (ess / 10.0).powf(1.0 / f64::from(dim)).max(8.0);
    let mut k = 1;
    while n as f64 / (2 * k) as f64 >= wanted && n / (2 * k) >= 8 {
        k *= 2;
    }
    k
}

/// Number of cells, the fullest first, that hold a share of the weight; the last one counts in part.
fn size_of_share(cells: &[f64], share: f64) -> f64 {
    let mut sorted = cells.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut left = share * sorted.iter().sum::<f64>();
    let mut count = 0.0;
    for v in sorted {
        if v <= 0.0 || left <= 0.0 {
            break;
        }
        count += (left / v).min(1.0);
        left -= v;
    }
    count
}

/// Gaussian smoothing along the rows of `(n_rows, n)` cells. At a wall the kernel is cut and made whole again.
fn smooth(cells: &[f64], n_rows: usize, n: usize, width: f64, walls: Walls) -> Vec<f64> {
    let reach = (4.0 * width).ceil() as usize;
    let kernel: Vec<f64> = (0..=reach).map(|d| (-0.5 * (d as f64 / width).powi(2)).exp()).collect();
    let whole = kernel[0] + 2.0 * kernel[1..].iter().sum::<f64>();
    // Mass of the kernel around each cell that falls within the walls.
    let inside: Vec<f64> = (0..n)
        .map(|i| {
            let lost_low = if walls.0 { kernel.iter().skip(i + 1).sum() } else { 0.0 };
            let lost_high = if walls.1 { kernel.iter().skip(n - i).sum() } else { 0.0 };
            (whole - lost_low - lost_high).max(1e-3 * whole)
        })
        .collect();
    let mut out = vec![0.0; n_rows * n];
    for (row, smoothed) in cells.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        for (i, &w) in row.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            for (j, value) in
                smoothed.iter_mut().enumerate().take(i + reach + 1).skip(i.saturating_sub(reach))
            {
                *value += w * kernel[i.abs_diff(j)];
            }
        }
        for (value, inside) in smoothed.iter_mut().zip(&inside) {
            *value /= inside;
        }
    }
    out
}

fn transpose(values: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|index| values[(index % n) * n + index / n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points spread like a standard Gaussian, without noise, from Box and Muller on a lattice.
    fn gaussian(n: usize) -> Vec<f64> {
        (0..n)
            .flat_map(|i| {
                let u = (i as f64 + 0.5) / n as f64;
                let v = (i as f64 * 0.618_033_988_749_895).fract() * std::f64::consts::TAU;
                let r = (-2.0 * u.ln()).sqrt();
                [r * v.cos(), r * v.sin()]
            })
            .collect()
    }

    const SPAN: Span = Span { low: -5.0, high: 5.0 };
    const OPEN: Walls = (false, false);

    #[test]
    fn levels_hold_their_share() {
        let cloud = Cloud::new(&gaussian(20_000), 2, 2, None);
        let one = density_1(&cloud, 0, SPAN, OPEN, cloud.ess());
        let two = density_2(&cloud, (0, 1), (SPAN, SPAN), (OPEN, OPEN), (&one, &one), cloud.ess());
        // Radius of the 68 % region of a two-dimensional Gaussian: sqrt(2.2958).
        let level = two.level(LEVELS[0]);
        let inside = two.values.iter().filter(|v| **v > level).count() as f64 * (10.0 / N_2 as f64).powi(2);
        let radius = (inside / std::f64::consts::PI).sqrt();
        assert!((radius - 2.2958_f64.sqrt()).abs() < 0.06, "{radius}");
        let peak = one.values.iter().copied().fold(0.0, f64::max);
        assert!((peak - 0.3989).abs() < 0.01, "{peak}");
    }

    #[test]
    fn weights_count_as_repeats() {
        let once = Cloud::new(&[0.1, 0.1, 0.1, 2.0], 1, 1, None);
        let weighted = Cloud::new(&[0.1, 2.0, 4.0], 1, 1, Some(&[3e-200, 1e-200, 0.0]));
        assert_eq!(weighted.range(0, 0.01), Some((0.1, 2.0)));
        assert_eq!(once.range(0, 0.01), Some((0.1, 2.0)));
        assert!((weighted.ess() - 1.6).abs() < 1e-12);
    }

    #[test]
    fn a_wall_does_not_drain_a_uniform_density() {
        let theta: Vec<f64> = (0..4000).map(|i| (f64::from(i) + 0.5) / 4000.0).collect();
        let cloud = Cloud::new(&theta, 1, 1, None);
        let span = Span { low: 0.0, high: 1.0 };
        let walled = density_1(&cloud, 0, span, (true, true), cloud.ess()).values;
        assert!(walled.iter().all(|v| (v - 1.0).abs() < 0.02), "{:?}", &walled[..5]);
        let open = density_1(&cloud, 0, span, OPEN, cloud.ess()).values;
        assert!(open[0] < 0.7, "{}", open[0]);
    }

    #[test]
    fn separated_modes_stay_sharp() {
        // Two modes 40 scales apart: each keeps the height of half a Gaussian.
        let half = gaussian(4000);
        let theta: Vec<f64> = half.iter().map(|x| x - 20.0).chain(half.iter().map(|x| x + 20.0)).collect();
        let cloud = Cloud::new(&theta, 1, 1, None);
        let values = density_1(&cloud, 0, Span { low: -26.0, high: 26.0 }, OPEN, cloud.ess()).values;
        let peak = values.iter().copied().fold(0.0, f64::max);
        assert!((peak - 0.1995).abs() < 0.02, "{peak}");
    }

    #[test]
    fn rows_that_are_not_finite_are_counted() {
        let cloud = Cloud::new(&[1.0, f64::NAN, 2.0, 3.0, 4.0, f64::INFINITY], 2, 2, None);
        assert_eq!((cloud.weights.len(), cloud.n_left_out), (1, 2));
        let none = Cloud::new(&[1.0, 2.0], 1, 1, Some(&[f64::NAN, -1.0]));
        assert!(none.is_empty() && none.n_left_out == 2 && none.range(0, 0.1).is_none());
        assert!(density_1(&none, 0, SPAN, OPEN, 1.0).values.iter().all(|v| *v == 0.0));
    }

    #[test]
    fn all_clouds_are_smoothed_alike() {
        let cloud = |n: usize| Cloud::new(&vec![0.5; n], 1, 1, None);
        assert_eq!(common_ess(&[cloud(5000), cloud(20)]), 1000.0);
        assert_eq!(common_ess(&[cloud(5000), cloud(3000), cloud(0)]), 3000.0);
        assert_eq!(common_ess(&[cloud(50), cloud(20)]), 50.0);
        assert_eq!(common_ess(&[cloud(0)]), 1.0);
    }
}
