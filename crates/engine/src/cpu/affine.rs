//! The map of affine couplings on a block of samples: part B scaled and shifted, and its backward pass.
//! Formulas are those of RealNVP (Dinh et al. 2017) with a bounded log scale. Invariant: the backward pass reads what the
//! inverse pass kept and computes no function again.

use lwflow_model::AffineCouplingSpec;

use super::coupling::{Direction, sample};
use super::math;
use super::panel::{Extent, Panels};
use super::simd::{Job, Simd};

/// Part B through the layer, with the log scale bounded.
pub(super) struct AffineMove<'a> {
    pub spec: &'a AffineCouplingSpec,
    pub direction: Direction,
    pub output: &'a Panels,
    pub x: &'a mut Panels,
    pub sample: &'a mut Panels,
    /// u_B, exp(-s), ds / ds_raw.
    pub kept: Option<&'a mut Panels>,
    pub extent: Extent,
}

impl Job for AffineMove<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let transformed = &self.spec.transformed;
        let n_b = transformed.len();
        let s_max = s.splat(self.spec.s_max as f32);
        let inv_s_max = s.splat((1.0 / self.spec.s_max) as f32);
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        for p in 0..self.extent.panels() {
            let output = self.output.panel(p);
            let x = self.x.panel_mut(p);
            let log_det = &mut self.sample.panel_mut(p)[sample::LOG_DET];
            for v in 0..self.extent.vectors(p) {
                let mut sum = s.load(&log_det.0[v]);
                for (b, &j) in transformed.iter().enumerate() {
                    let bounded = math::tanh(s, s.mul(s.load(&output[b].0[v]), inv_s_max));
                    let scale = s.mul(s_max, bounded);
                    let shift = s.load(&output[n_b + b].0[v]);
                    let from = s.load(&x[j].0[v]);
                    sum = s.add(sum, scale);
                    let to = match self.direction {
                        Direction::Forward => s.fma(from, math::exp(s, scale), shift),
                        Direction::Inverse => {
                            let e = math::exp(s, s.sub(zero, scale));
                            let u = s.mul(s.sub(from, shift), e);
                            if let Some(kept) = &mut self.kept {
                                let kept = kept.panel_mut(p);
                                s.store(u, &mut kept[b].0[v]);
                                s.store(e, &mut kept[n_b + b].0[v]);
                                s.store(s.fnma(bounded, bounded, one), &mut kept[2 * n_b + b].0[v]);
                            }
                            u
                        }
                    };
                    s.store(to, &mut x[j].0[v]);
                }
                s.store(sum, &mut log_det.0[v]);
            }
        }
    }
}

/// From the gradient at part B to those of s_raw and t.
pub(super) struct AffineBackward<'a> {
    pub spec: &'a AffineCouplingSpec,
    pub kept: &'a Panels,
    pub g: &'a mut Panels,
    pub sample: &'a Panels,
    pub delta: &'a mut Panels,
    pub extent: Extent,
}

impl Job for AffineBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let transformed = &self.spec.transformed;
        let n_b = transformed.len();
        for p in 0..self.extent.panels() {
            let (g, delta) = (self.g.panel_mut(p), self.delta.panel_mut(p));
            let kept = self.kept.panel(p);
            let weight = &self.sample.panel(p)[sample::WEIGHT];
            for v in 0..self.extent.vectors(p) {
                let w = s.load(&weight.0[v]);
                for (b, &j) in transformed.iter().enumerate() {
                    let (u, e) = (s.load(&kept[b].0[v]), s.load(&kept[n_b + b].0[v]));
                    let ds = s.load(&kept[2 * n_b + b].0[v]);
                    let g_u = s.load(&g[j].0[v]);
                    let g_v = s.mul(g_u, e);
                    s.store(s.mul(s.fnma(g_u, u, w), ds), &mut delta[b].0[v]);
                    s.store(s.sub(s.splat(0.0), g_v), &mut delta[n_b + b].0[v]);
                    s.store(g_v, &mut g[j].0[v]);
                }
            }
        }
    }
}
