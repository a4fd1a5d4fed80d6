//! The map of spline couplings on a block of samples: rational-quadratic splines of part B, and their backward pass.
//! Formulas and names as in the definition (crates/model/src/spline.rs; Durkan et al. 2019). Invariant: the bin is found
//! by comparisons of knots, lane by lane without branches, and the backward pass reads what the inverse pass kept.

use lwflow_model::{MIN_BIN_SHARE, MIN_DERIVATIVE, SplineCouplingSpec, derivative_shift, n_raw};

use super::coupling::{Direction, sample};
use super::math;
use super::panel::{Extent, Panels, Row};
use super::simd::{Job, Simd};

/// Numbers of one layer's splines.
#[derive(Debug, Clone, Copy)]
pub(super) struct SplinePlan<'a> {
    transformed: &'a [usize],
    n_bins: usize,
    bound: f32,
    /// Size of a bin: `least + scale * share`.
    least: f32,
    scale: f32,
    shift: f32,
}

/// Rows kept per coordinate behind the 2 K shares of widths and heights. What multiplies g_u and w in a gradient is kept
/// as a pair.
mod kept {
    /// Bin.
    pub const BIN: usize = 0;
    /// Place in the bin.
    pub const XI: usize = 1;
    /// (u - y_k) / h.
    pub const R: usize = 2;
    /// h / width.
    pub const SLOPE: usize = 3;
    /// Gradient by v.
    pub const V: usize = 4;
    /// Gradient by the slope, over the width.
    pub const S: usize = 6;
    /// Gradients by the raw end derivatives.
    pub const D0: usize = 8;
    pub const D1: usize = 10;
    /// Number of rows.
    pub const ROWS: usize = 12;
}

impl<'a> SplinePlan<'a> {
    /// The numbers of a layer.
    pub fn new(spec: &'a SplineCouplingSpec) -> Self {
        let span = 2.0 * spec.bound;
        Self {
            transformed: &spec.transformed,
            n_bins: spec.n_bins,
            bound: spec.bound as f32,
            least: (span * MIN_BIN_SHARE) as f32,
            scale: (span * (1.0 - spec.n_bins as f64 * MIN_BIN_SHARE)) as f32,
            shift: derivative_shift() as f32,
        }
    }

    fn kept_per_coordinate(self) -> usize {
        2 * self.n_bins + kept::ROWS
    }

    /// Rows that the backward pass needs.
    pub fn kept_rows(self) -> usize {
        self.transformed.len() * self.kept_per_coordinate()
    }
}

/// The bin that each lane's point lies in.
struct Bin<V> {
    k: V,
    x: V,
    width: V,
    y: V,
    height: V,
    /// Raw derivatives at its ends (anything at the ends of the interval).
    raw: [V; 2],
}

/// Makes shares of raw values in place: softmax over the rows.
#[inline(always)]
fn softmax<S: Simd>(s: S, rows: &mut [Row], v: usize) {
    // Exactly all of it, so that its gradient is exactly zero.
    if let [row] = rows {
        return s.store(s.splat(1.0), &mut row.0[v]);
    }
    let mut largest = s.load(&rows[0].0[v]);
    for row in &rows[1..] {
        largest = s.max(largest, s.load(&row.0[v]));
    }
    let mut sum = s.splat(0.0);
    for row in rows.iter_mut() {
        let e = math::exp(s, s.sub(s.load(&row.0[v]), largest));
        s.store(e, &mut row.0[v]);
        sum = s.add(sum, e);
    }
    let inverse = s.recip(sum);
    for row in rows.iter_mut() {
        s.store(s.mul(s.load(&row.0[v]), inverse), &mut row.0[v]);
    }
}

impl SplinePlan<'_> {
    /// Finds the bin of `at`, a v or a u, by the knots between bins alone; `raw` holds shares, then raw derivatives.
    #[inline(always)]
    fn find<S: Simd>(self, s: S, raw: &[Row], v: usize, at: S::V, direction: Direction) -> Bin<S::V> {
        let k_bins = self.n_bins;
        let (least, scale) = (s.splat(self.least), s.splat(self.scale));
        let size = |row: &Row| s.fma(scale, s.load(&row.0[v]), least);
        let start = s.splat(-self.bound);
        let mut next = s.splat(0.0);
        let mut bin = Bin { k: next, x: start, width: next, y: start, height: next, raw: [next, next] };
        let (mut x, mut y) = (start, start);
        for k in 0..k_bins {
            let (width, height) = (size(&raw[k]), size(&raw[k_bins + k]));
            let before = next;
            if k + 1 < k_bins {
                next = s.load(&raw[2 * k_bins + k].0[v]);
            }
            if k == 0 {
                (bin.width, bin.height, bin.raw) = (width, height, [before, next]);
            } else {
                let knot = if direction == Direction::Inverse { x } else { y };
                let take = |old: S::V, new: S::V| s.select_lt(at, knot, old, new);
                bin = Bin {
                    k: take(bin.k, s.splat(k as f32)),
                    x: take(bin.x, x),
                    width: take(bin.width, width),
                    y: take(bin.y, y),
                    height: take(bin.height, height),
                    raw: [take(bin.raw[0], before), take(bin.raw[1], next)],
                };
            }
            x = s.add(x, width);
            y = s.add(y, height);
        }
        bin
    }
}

/// Part B through the layer.
pub(super) struct SplineMove<'a> {
    pub plan: SplinePlan<'a>,
    pub direction: Direction,
    /// Raw values; the softmaxes are made in place.
    pub output: &'a mut Panels,
    pub x: &'a mut Panels,
    pub sample: &'a mut Panels,
    pub kept: Option<&'a mut Panels>,
    pub extent: Extent,
}

impl Job for SplineMove<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let plan = self.plan;
        let (n_bins, n_raw) = (plan.n_bins, n_raw(plan.n_bins));
        let n_kept = plan.kept_per_coordinate();
        let (zero, one, two) = (s.splat(0.0), s.splat(1.0), s.splat(2.0));
        let (bound, shift) = (s.splat(plan.bound), s.splat(plan.shift));
        let least_derivative = s.splat(MIN_DERIVATIVE as f32);
        let last_bin = s.splat(n_bins as f32 - 1.5);
        let clamp = |x: S::V| s.max(zero, s.min(one, x));
        for p in 0..self.extent.panels() {
            let (output, x) = (self.output.panel_mut(p), self.x.panel_mut(p));
            let log_det = &mut self.sample.panel_mut(p)[sample::LOG_DET];
            for v in 0..self.extent.vectors(p) {
                let mut sum = s.load(&log_det.0[v]);
                for (b, &j) in plan.transformed.iter().enumerate() {
                    let raw = &mut output[b * n_raw..][..n_raw];
                    softmax(s, &mut raw[..n_bins], v);
                    softmax(s, &mut raw[n_bins..2 * n_bins], v);
                    let from = s.load(&x[j].0[v]);
                    let bin = plan.find(s, raw, v, from, self.direction);
                    // At both ends of the interval the derivative is one.
                    let (d0, slope0) = math::softplus(s, s.add(bin.raw[0], shift));
                    let (d1, slope1) = math::softplus(s, s.add(bin.raw[1], shift));
                    let d0 = s.select_lt(bin.k, s.splat(0.5), one, s.add(least_derivative, d0));
                    let d1 = s.select_lt(last_bin, bin.k, one, s.add(least_derivative, d1));
                    let inv_width = s.recip(bin.width);
                    let slope = s.mul(bin.height, inv_width);
                    let (xi, eta) = match self.direction {
                        Direction::Inverse => {
                            let xi = clamp(s.mul(s.sub(from, bin.x), inv_width));
                            (xi, s.sub(one, xi))
                        }
                        Direction::Forward => {
                            let up = clamp(s.mul(s.sub(from, bin.y), s.recip(bin.height)));
                            let down = s.sub(one, up);
                            let double = s.add(slope, slope);
                            let turn = s.fnma(d1, up, s.mul(d0, down));
                            let squares = s.fma(s.mul(double, double), s.mul(up, down), s.mul(turn, turn));
                            let magnitude = s.max(turn, s.sub(zero, turn));
                            let t = s.add(magnitude, s.sqrt(squares));
                            let near = s.mul(double, s.select_lt(turn, zero, down, up));
                            let inverse = s.recip(s.add(t, near));
                            let (near, far) = (s.mul(near, inverse), s.mul(t, inverse));
                            (s.select_lt(turn, zero, far, near), s.select_lt(turn, zero, near, far))
                        }
                    };
                    let q = s.mul(xi, eta);
                    let (xi2, eta2) = (s.mul(xi, xi), s.mul(eta, eta));
                    let both = s.add(d0, d1);
                    let ends = s.add(xi2, eta2);
                    let c = s.fma(slope, ends, s.mul(both, q));
                    let n = s.fma(d1, xi2, s.fma(s.mul(two, slope), q, s.mul(d0, eta2)));
                    let (inv_c, inv_s) = (s.recip(c), s.recip(slope));
                    let r = s.mul(s.fma(slope, xi2, s.mul(d0, q)), inv_c);
                    let ratio = math::ln(s, s.mul(c, inv_s));
                    let d = s.sub(s.add(ratio, ratio), math::ln(s, n));
                    let to = match self.direction {
                        Direction::Inverse => s.fma(bin.height, r, bin.y),
                        Direction::Forward => s.fma(bin.width, xi, bin.x),
                    };
                    let magnitude = s.max(from, s.sub(zero, from));
                    sum = s.add(sum, s.select_lt(magnitude, bound, d, zero));
                    s.store(s.select_lt(magnitude, bound, to, from), &mut x[j].0[v]);

                    let Some(kept) = &mut self.kept else { continue };
                    let kept = &mut kept.panel_mut(p)[b * n_kept..][..n_kept];
                    for (to, share) in kept.iter_mut().zip(&raw[..2 * n_bins]) {
                        to.0[v] = share.0[v];
                    }
                    let inv_n = s.recip(n);
                    let turn = s.sub(eta, xi);
                    let scale = s.mul(slope, inv_c);
                    let derivative = s.mul(s.mul(scale, scale), n);
                    let n_xi = s.fma(slope, turn, s.fnma(d0, eta, s.mul(d1, xi)));
                    let c_xi = s.mul(s.fnma(two, slope, both), turn);
                    let log_xi = s.mul(two, s.fnma(c_xi, inv_c, s.mul(n_xi, inv_n)));
                    let (q_n, q_c) = (s.mul(q, inv_n), s.mul(q, inv_c));
                    let log_s = s.mul(two, s.fnma(ends, inv_c, s.add(inv_s, q_n)));
                    let r_s = s.mul(s.mul(q_c, inv_c), s.fnma(d0, eta2, s.mul(d1, xi2)));
                    let log_d0 = s.fnma(two, q_c, s.mul(eta2, inv_n));
                    let log_d1 = s.fnma(two, q_c, s.mul(xi2, inv_n));
                    let h_q = s.mul(bin.height, q_c);
                    let pairs = [
                        (kept::V, derivative, s.mul(log_xi, inv_width), one),
                        (kept::S, s.mul(slope, r_s), s.mul(log_s, inv_width), zero),
                        (kept::D0, s.mul(s.mul(h_q, s.sub(one, r)), slope0), s.mul(log_d0, slope0), zero),
                        (kept::D1, s.mul(s.mul(s.sub(zero, h_q), r), slope1), s.mul(log_d1, slope1), zero),
                    ];
                    // Outside the map is the identity, and nothing in it depends on the raw values: bin 0, all else zero.
                    let rows = &mut kept[2 * n_bins..];
                    let mut keep = |row: usize, inside: S::V, outside: S::V| {
                        s.store(s.select_lt(magnitude, bound, inside, outside), &mut rows[row].0[v]);
                    };
                    for (row, by_u, by_w, outside) in pairs {
                        keep(row, by_u, outside);
                        keep(row + 1, by_w, zero);
                    }
                    keep(kept::BIN, bin.k, zero);
                    keep(kept::XI, xi, zero);
                    keep(kept::R, r, zero);
                    keep(kept::SLOPE, slope, zero);
                }
                s.store(sum, &mut log_det.0[v]);
            }
        }
    }
}

/// From the gradient at part B to those of the raw values.
pub(super) struct SplineBackward<'a> {
    pub plan: SplinePlan<'a>,
    pub kept: &'a Panels,
    pub g: &'a mut Panels,
    pub sample: &'a Panels,
    pub delta: &'a mut Panels,
    pub extent: Extent,
}

impl Job for SplineBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.plan;
        let (n_bins, n_raw) = (plan.n_bins, n_raw(plan.n_bins));
        let n_kept = plan.kept_per_coordinate();
        let (zero, half, scale) = (s.splat(0.0), s.splat(0.5), s.splat(plan.scale));
        for p in 0..self.extent.panels() {
            let (g, delta) = (self.g.panel_mut(p), self.delta.panel_mut(p));
            let weight = &self.sample.panel(p)[sample::WEIGHT];
            for v in 0..self.extent.vectors(p) {
                let w = s.load(&weight.0[v]);
                // A sample of weight zero adds nothing, even where its coordinates overflow.
                let live = |x: S::V| s.select_lt(zero, s.max(w, s.sub(zero, w)), x, zero);
                for (b, &j) in plan.transformed.iter().enumerate() {
                    let (shares, kept) = self.kept.panel(p)[b * n_kept..][..n_kept].split_at(2 * n_bins);
                    let delta = &mut delta[b * n_raw..][..n_raw];
                    let row = |at: usize| s.load(&kept[at].0[v]);
                    let g_u = s.load(&g[j].0[v]);
                    let pair = |at: usize| s.fnma(w, row(at + 1), s.mul(g_u, row(at)));
                    let (g_v, g_s) = (pair(kept::V), pair(kept::S));
                    let (k, r) = (row(kept::BIN), row(kept::R));
                    let g_width = s.fnma(g_v, row(kept::XI), s.sub(zero, s.mul(g_s, row(kept::SLOPE))));
                    let g_height = s.fma(g_u, r, g_s);
                    s.store(g_v, &mut g[j].0[v]);
                    let sides = [(s.sub(zero, g_v), g_width), (g_u, g_height)];
                    for (side, (knot, own)) in sides.into_iter().enumerate() {
                        let shares = &shares[side * n_bins..][..n_bins];
                        // Sizes before bin k move its first knot; those after it move nothing.
                        let by_size = |i: usize| {
                            let at = s.splat(i as f32);
                            let later = s.select_lt(s.sub(at, half), k, own, zero);
                            s.select_lt(s.add(at, half), k, knot, later)
                        };
                        let mut mean = zero;
                        for (i, share) in shares.iter().enumerate() {
                            mean = s.fma(s.load(&share.0[v]), by_size(i), mean);
                        }
                        for (i, (share, to)) in shares.iter().zip(&mut delta[side * n_bins..]).enumerate() {
                            let share = s.mul(scale, s.load(&share.0[v]));
                            s.store(live(s.mul(share, s.sub(by_size(i), mean))), &mut to.0[v]);
                        }
                    }
                    // Knot i + 1 has raw derivative i: it is the right end of bin i and the left one of bin i + 1.
                    let (g_d0, g_d1) = (live(pair(kept::D0)), live(pair(kept::D1)));
                    for (i, to) in delta[2 * n_bins..].iter_mut().enumerate() {
                        let at = s.splat(i as f32);
                        let (before, after) = (s.sub(at, half), s.add(at, half));
                        let later = s.add(after, s.splat(1.0));
                        let left = s.select_lt(after, k, s.select_lt(k, later, g_d0, zero), zero);
                        let right = s.select_lt(k, after, s.select_lt(before, k, g_d1, zero), zero);
                        s.store(s.add(left, right), &mut to.0[v]);
                    }
                }
            }
        }
    }
}
