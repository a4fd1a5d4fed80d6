//! Monotone rational-quadratic splines of one coordinate with linear tails (Durkan et al. 2019, section 3.1 and appendix A;
//! Gregory and Delbourgo 1982). `inverse` (data v -> base u) is the direct evaluation, `forward` solves a quadratic.
//! Invariant: every sum that is divided by or whose logarithm is taken has non-negative terms only, so nothing cancels.

use crate::Real;

/// Most bins of a spline.
pub const MAX_BINS: usize = 64;
/// Least share of the interval that a bin is wide or high.
pub const MIN_BIN_SHARE: f64 = 1e-3;
/// Least derivative at an inner knot.
pub const MIN_DERIVATIVE: f64 = 1e-3;

/// Raw values per coordinate: K widths, K heights, K - 1 derivatives at inner knots.
pub fn n_raw(n_bins: usize) -> usize {
    (3 * n_bins).saturating_sub(1)
}

/// What is added to a raw derivative before the softplus: raw zero then is derivative one, so that a spline of zeros is
/// the identity.
pub fn derivative_shift() -> f64 {
    (1.0 - MIN_DERIVATIVE).exp_m1().ln()
}

/// Widths or heights of the bins.
struct Bins<T> {
    /// softmax of the raw values, `[K]`.
    share: Vec<T>,
    /// Knots `[K + 1]`, from -bound.
    knots: Vec<T>,
    /// Sizes `[K]`.
    size: Vec<T>,
    /// d size / d share.
    scale: T,
}

/// The spline of one coordinate for one sample.
pub(crate) struct Spline<T> {
    bound: T,
    /// In v.
    widths: Bins<T>,
    /// In u.
    heights: Bins<T>,
    /// du/dv at the knots `[K + 1]`, one at both ends.
    derivatives: Vec<T>,
    /// d derivative / d raw `[K + 1]`, zero at both ends.
    slopes: Vec<T>,
}

/// A point in a bin: the bin's slope s = h / w and end derivatives, and where in it the point is.
///
/// With xi = (v - x_k) / w, q = xi (1 - xi):
///
/// ```text
/// A = s xi^2 + d0 q,  C = s (xi^2 + (1 - xi)^2) + (d0 + d1) q,  u = y_k + h A / C
/// N = d1 xi^2 + 2 s q + d0 (1 - xi)^2,  du/dv = s^2 N / C^2
/// ```
///
/// which are equations 4 and 5 of the paper, its s + (d0 + d1 - 2 s) q written as C, without a difference.
struct Point<T> {
    s: T,
    d0: T,
    d1: T,
    xi: T,
    /// 1 - xi.
    eta: T,
    q: T,
    /// A / C.
    r: T,
    c: T,
    n: T,
}

impl<T: Real> Bins<T> {
    fn new(raw: &[T], bound: f64) -> Self {
        let max = raw.iter().copied().fold(T::from_f64(f64::NEG_INFINITY), |a, b| if b > a { b } else { a });
        let exps: Vec<T> = raw.iter().map(|&r| (r - max).exp()).collect();
        let mut sum = T::zero();
        for &e in &exps {
            sum += e;
        }
        let floor = T::from_f64(2.0 * bound * MIN_BIN_SHARE);
        let scale = T::from_f64(2.0 * bound * (1.0 - raw.len() as f64 * MIN_BIN_SHARE));
        let share: Vec<T> = exps.into_iter().map(|e| e / sum).collect();
        let size: Vec<T> = share.iter().map(|&p| floor + scale * p).collect();
        let mut knots = vec![T::from_f64(-bound)];
        let mut at = knots[0];
        for &w in &size {
            at += w;
            knots.push(at);
        }
        Self { share, knots, size, scale }
    }

    /// The bin of x, by the knots between bins alone: the first and the last bin take what rounding leaves outside.
    fn find(&self, x: T) -> usize {
        let inner = &self.knots[1..self.size.len()];
        inner.iter().take_while(|&&knot| x >= knot).count()
    }

    /// Gradient of the raw values from those of the knot before bin k and of the size of bin k.
    fn raw_gradient(&self, k: usize, knot: T, size: T) -> impl Iterator<Item = T> + '_ {
        // Sizes before bin k move its first knot; those after it move nothing.
        let gradient = move |i: usize| {
            if i < k {
                knot
            } else if i == k {
                size
            } else {
                T::zero()
            }
        };
        let mut mean = T::zero();
        for (i, &p) in self.share.iter().enumerate().take(k + 1) {
            mean += p * gradient(i);
        }
        let scale = self.scale;
        self.share.iter().enumerate().map(move |(i, &p)| scale * p * (gradient(i) - mean))
    }
}

impl<T: Real> Point<T> {
    fn new(s: T, d0: T, d1: T, xi: T, eta: T) -> Self {
        let q = xi * eta;
        let c = s * (xi * xi + eta * eta) + (d0 + d1) * q;
        let r = (s * xi * xi + d0 * q) / c;
        let n = d1 * xi * xi + (s + s) * q + d0 * eta * eta;
        Self { s, d0, d1, xi, eta, q, r, c, n }
    }

    /// du/dv.
    fn derivative(&self) -> T {
        let ratio = self.s / self.c;
        ratio * ratio * self.n
    }

    /// log det of the forward map, -ln du/dv.
    fn log_det(&self) -> T {
        let ratio = (self.c / self.s).ln();
        ratio + ratio - self.n.ln()
    }
}

impl<T: Real> Spline<T> {
    /// The spline of raw values `[3 K - 1]`: widths, heights, derivatives at inner knots.
    pub fn new(raw: &[T], n_bins: usize, bound: f64) -> Self {
        let (mut derivatives, mut slopes) = (vec![T::one()], vec![T::zero()]);
        let shift = T::from_f64(derivative_shift());
        for &r in &raw[2 * n_bins..] {
            let x = r + shift;
            // softplus and its derivative without overflow.
            let e = if x > T::zero() { (-x).exp() } else { x.exp() };
            let (positive, numerator) = if x > T::zero() { (x, T::one()) } else { (T::zero(), e) };
            derivatives.push(T::from_f64(MIN_DERIVATIVE) + (positive + e.ln_1p()));
            slopes.push(numerator / (T::one() + e));
        }
        derivatives.push(T::one());
        slopes.push(T::zero());
        Self {
            bound: T::from_f64(bound),
            widths: Bins::new(&raw[..n_bins], bound),
            heights: Bins::new(&raw[n_bins..2 * n_bins], bound),
            derivatives,
            slopes,
        }
    }

    /// Whether x is inside the interval; the map is the identity elsewhere, and NaN passes.
    fn contains(&self, x: T) -> bool {
        x > -self.bound && x < self.bound
    }

    fn slope(&self, k: usize) -> T {
        self.heights.size[k] / self.widths.size[k]
    }

    /// A share of a bin, kept in [0, 1] where rounding leaves it.
    fn share(x: T) -> T {
        if x < T::zero() {
            T::zero()
        } else if x > T::one() {
            T::one()
        } else {
            x
        }
    }

    /// The point of bin k whose u is given.
    ///
    /// Equation 29 of the paper, with eta = (u - y_k) / h and p = d0 (1 - eta) - d1 eta: the discriminant is
    /// p^2 + 4 s^2 eta (1 - eta), a sum of squares, and with t = |p| + its root
    ///
    /// ```text
    /// xi = 2 s eta / (t + 2 s eta) if p >= 0,   1 - xi = 2 s (1 - eta) / (t + 2 s (1 - eta)) if p < 0
    /// ```
    ///
    /// so that the smaller of xi and 1 - xi keeps its relative precision.
    fn solve(&self, k: usize, u: T) -> Point<T> {
        let (s, d0, d1) = (self.slope(k), self.derivatives[k], self.derivatives[k + 1]);
        let eta = Self::share((u - self.heights.knots[k]) / self.heights.size[k]);
        let rest = T::one() - eta;
        let p = d0 * rest - d1 * eta;
        let (magnitude, share) = if p < T::zero() { (-p, rest) } else { (p, eta) };
        let double = s + s;
        let t = magnitude + (p * p + double * double * (eta * rest)).sqrt();
        let sum = t + double * share;
        let (near, far) = (double * share / sum, t / sum);
        let (xi, other) = if p < T::zero() { (far, near) } else { (near, far) };
        Point::new(s, d0, d1, xi, other)
    }

    /// Base to data: v and log_det.
    pub fn forward(&self, u: T) -> (T, T) {
        if !self.contains(u) {
            return (u, T::zero());
        }
        let k = self.heights.find(u);
        let point = self.solve(k, u);
        (self.widths.knots[k] + self.widths.size[k] * point.xi, point.log_det())
    }

    /// Data to base: u and log_det of the forward map.
    pub fn inverse(&self, v: T) -> (T, T) {
        if !self.contains(v) {
            return (v, T::zero());
        }
        let k = self.widths.find(v);
        let xi = Self::share((v - self.widths.knots[k]) / self.widths.size[k]);
        let point =
            Point::new(self.slope(k), self.derivatives[k], self.derivatives[k + 1], xi, T::one() - xi);
        (self.heights.knots[k] + self.heights.size[k] * point.r, point.log_det())
    }

    /// v, its gradient, and the raw values' gradients `[3 K - 1]`, from u, its gradient and the sample's weight: those of
    /// `g_u u(v) - w ln du/dv`. With the signs of [`Point`],
    ///
    /// ```text
    /// dr/ds = q (d1 xi^2 - d0 (1 - xi)^2) / C^2,  dr/dd0 = q (1 - r) / C,  dr/dd1 = -q r / C
    /// ```
    pub fn backward(&self, u: T, g_u: T, w: T) -> (T, T, Vec<T>) {
        let n_bins = self.widths.size.len();
        let mut raw = vec![T::zero(); n_raw(n_bins)];
        if !self.contains(u) || w == T::zero() && g_u == T::zero() {
            return (self.forward(u).0, g_u, raw);
        }
        let k = self.heights.find(u);
        let point = self.solve(k, u);
        let Point { s, d0, d1, xi, eta, q, r, c, n } = point;
        let (width, height) = (self.widths.size[k], self.heights.size[k]);
        let v = self.widths.knots[k] + width * xi;

        let two = T::from_f64(2.0);
        let turn = eta - xi; // 1 - 2 xi
        let (square, rest) = (d1 * xi * xi, d0 * eta * eta);
        // Logarithm of the derivative by xi, s, d0 and d1.
        let log_xi = two * ((d1 * xi + s * turn - d0 * eta) / n - (d0 + d1 - two * s) * turn / c);
        let log_s = two * (T::one() / s + q / n - (xi * xi + eta * eta) / c);
        let log_d0 = eta * eta / n - two * q / c;
        let log_d1 = xi * xi / n - two * q / c;
        // The loss by v, s, d0 and d1 as they enter.
        let g_h = g_u * height;
        let g_v = g_u * point.derivative() - w * log_xi / width;
        let g_s = g_h * (q * (square - rest) / (c * c)) - w * log_s;
        let g_d0 = g_h * (q * (T::one() - r) / c) - w * log_d0;
        let g_d1 = -g_h * (q * r / c) - w * log_d1;
        let g_width = -g_v * xi - g_s * s / width;
        let g_height = g_u * r + g_s / width;

        for (to, g) in raw.iter_mut().zip(self.widths.raw_gradient(k, -g_v, g_width)) {
            *to = g;
        }
        for (to, g) in raw[n_bins..].iter_mut().zip(self.heights.raw_gradient(k, g_u, g_height)) {
            *to = g;
        }
        // Knot i has raw derivative i - 1; the ends have none.
        for (knot, g) in [(k, g_d0), (k + 1, g_d1)] {
            if knot > 0 && knot < n_bins {
                raw[2 * n_bins + knot - 1] = g * self.slopes[knot];
            }
        }
        (v, g_v, raw)
    }
}
