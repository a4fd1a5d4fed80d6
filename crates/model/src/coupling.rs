//! A coupling layer, one sample at a time: the conditioner, then one map per transformed coordinate. The definition, not a
//! fast implementation; signs and the affine map are those of RealNVP (Dinh et al. 2017) with a bounded log scale.

use crate::mlp::{Mlp, Tape};
use crate::spline::{Spline, n_raw};
use crate::{LayerSpec, LinearBlock, Real};

/// One coupling layer with its slice of the layout.
pub(crate) struct CouplingLayer<'a, T> {
    pub spec: &'a LayerSpec,
    pub linears: &'a [LinearBlock],
    pub params: &'a [T],
}

/// `v = u exp(s) + t` of one coordinate.
struct Affine<T> {
    /// Log scale, bounded.
    s: T,
    t: T,
    /// ds / ds_raw.
    slope: T,
}

/// The map of one coordinate with its parameters.
enum Map<T> {
    Affine(Affine<T>),
    Spline(Spline<T>),
}

impl<T: Real> Affine<T> {
    fn new(s_raw: T, t: T, s_max: f64) -> Self {
        let s_max = T::from_f64(s_max);
        let bounded = (s_raw / s_max).tanh();
        Self { s: s_max * bounded, t, slope: T::one() - bounded * bounded }
    }

    /// v, its gradient, and the gradients of s_raw and t, from u and its gradient.
    fn backward(&self, u: T, g_u: T, w: T) -> (T, T, [T; 2]) {
        let g_v = g_u * (-self.s).exp();
        (u * self.s.exp() + self.t, g_v, [(w - g_u * u) * self.slope, -g_v])
    }
}

impl<T: Real> CouplingLayer<'_, T> {
    fn conditioner(&self) -> Mlp<'_, T> {
        Mlp { activation: self.spec.activation(), linears: self.linears, params: self.params }
    }

    fn run(&self, x: &[T], context: &[T]) -> Tape<T> {
        let identity = self.spec.identity().iter().map(|&j| x[j]);
        self.conditioner().run(identity.chain(context.iter().copied()).collect())
    }

    /// Places of the conditioner's outputs that set the map of transformed coordinate `b`.
    fn places(&self, b: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
        match self.spec {
            LayerSpec::AffineCoupling(c) => {
                let n_b = c.transformed.len();
                (b..2 * n_b).step_by(n_b)
            }
            LayerSpec::SplineCoupling(c) => {
                let n = n_raw(c.n_bins);
                (b * n..(b + 1) * n).step_by(1)
            }
        }
    }

    /// The map of transformed coordinate `b`.
    fn map(&self, out: &[T], b: usize) -> Map<T> {
        let raw: Vec<T> = self.places(b).map(|i| out[i]).collect();
        match self.spec {
            LayerSpec::AffineCoupling(c) => Map::Affine(Affine::new(raw[0], raw[1], c.s_max)),
            LayerSpec::SplineCoupling(c) => Map::Spline(Spline::new(&raw, c.n_bins, c.bound)),
        }
    }

    /// Base to data, in place; returns log_det.
    pub fn forward(&self, x: &mut [T], context: &[T]) -> T {
        let tape = self.run(x, context);
        let mut log_det = T::zero();
        for (b, &j) in self.spec.transformed().iter().enumerate() {
            let (v, d) = match self.map(tape.output(), b) {
                Map::Affine(affine) => (x[j] * affine.s.exp() + affine.t, affine.s),
                Map::Spline(spline) => spline.forward(x[j]),
            };
            x[j] = v;
            log_det += d;
        }
        log_det
    }

    /// Data to base, in place; returns log_det of the forward map.
    pub fn inverse(&self, x: &mut [T], context: &[T]) -> T {
        let tape = self.run(x, context);
        let mut log_det = T::zero();
        for (b, &j) in self.spec.transformed().iter().enumerate() {
            let (u, d) = match self.map(tape.output(), b) {
                Map::Affine(affine) => ((x[j] - affine.t) * (-affine.s).exp(), affine.s),
                Map::Spline(spline) => spline.inverse(x[j]),
            };
            x[j] = u;
            log_det += d;
        }
        log_det
    }

    /// Gradient of `-w log q` through `inverse`. On entry `x` and `g` are the layer's base-side value u and its
    /// gradient; on return the data-side value v, restored, and its gradient. Adds to `grad` and `grad_context`.
    pub fn backward(
        &self,
        x: &mut [T],
        g: &mut [T],
        w: T,
        context: &[T],
        grad: &mut [T],
        grad_context: &mut [T],
    ) {
        let tape = self.run(x, context);
        let mut delta = vec![T::zero(); self.spec.n_out()];
        for (b, &j) in self.spec.transformed().iter().enumerate() {
            let mut set = |raw: &[T]| {
                for (i, &d) in self.places(b).zip(raw) {
                    delta[i] = d;
                }
            };
            (x[j], g[j]) = match self.map(tape.output(), b) {
                Map::Affine(affine) => {
                    let (v, g_v, raw) = affine.backward(x[j], g[j], w);
                    set(&raw);
                    (v, g_v)
                }
                Map::Spline(spline) => {
                    let (v, g_v, raw) = spline.backward(x[j], g[j], w);
                    set(&raw);
                    (v, g_v)
                }
            };
        }
        let below = self.conditioner().backward(&tape, delta, grad);
        for (&j, &d) in self.spec.identity().iter().zip(&below) {
            g[j] += d;
        }
        for (g, &d) in grad_context.iter_mut().zip(&below[self.spec.identity().len()..]) {
            *g += d;
        }
    }
}
