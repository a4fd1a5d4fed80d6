//! Products of a matrix with panels: y = W x + b, and with W transposed for the backward pass, activation or its
//! derivative applied before the result leaves the registers. Invariant: a sample's result does not depend on where
//! in a block it lies; every tile shape adds the same terms in the same order.

use super::math::Activate;
use super::panel::{Extent, Panels, Row, VECTORS};
use super::simd::{Job, Simd};

/// Rows of the tiles that cover `n` outputs, at most `rows` each: `(first, size)`; the last may reach beyond n.
fn tiles(n: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = n.checked_sub(first).filter(|left| *left > 0)?;
        let mut size = rows;
        while size > 2 && size > left {
            size /= 2;
        }
        first += size;
        Some((first - size, size))
    })
}

/// Length of a packed matrix.
pub(super) fn packed_len(n_out: usize, n_in: usize, rows: usize) -> usize {
    tiles(n_out, rows).map(|(_, size)| size * (n_in + 1)).sum()
}

/// Packs a matrix `[n_out, n_in]` given by strides with its bias (or zeros): per tile of outputs the biases, then the
/// weights of one input after the other. Outputs beyond n_out get zeros.
pub(super) fn pack(
    out: &mut [f32],
    rows: usize,
    (n_out, n_in): (usize, usize),
    (stride_out, stride_in): (usize, usize),
    weights: &[f32],
    bias: Option<&[f32]>,
) {
    let mut rest = out;
    for (first, size) in tiles(n_out, rows) {
        let (tile, after) = rest.split_at_mut(size * (n_in + 1));
        rest = after;
        let n = size.min(n_out - first);
        let (head, body) = tile.split_at_mut(size);
        head.fill(0.0);
        if let Some(bias) = bias {
            head[..n].copy_from_slice(&bias[first..][..n]);
        }
        for (i, column) in body.chunks_exact_mut(size).enumerate() {
            for (r, value) in column.iter_mut().enumerate() {
                *value = if r < n { weights[(first + r) * stride_out + i * stride_in] } else { 0.0 };
            }
        }
    }
}

/// What becomes of a result before it is stored.
pub(super) trait Epilogue {
    /// The value to store for output `o`, vector `v` of panel `p`.
    fn finish<S: Simd>(&mut self, s: S, x: S::V, p: usize, o: usize, v: usize) -> S::V;
}

/// The result as it is.
pub(super) struct Plain;

impl Epilogue for Plain {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, _: S, x: S::V, _: usize, _: usize, _: usize) -> S::V {
        x
    }
}

/// The activation of the result; its derivative is stored where it is kept at all.
pub(super) struct Hidden<'a, A> {
    pub activation: A,
    pub derivative: Option<&'a mut Panels>,
}

impl<A: Activate> Epilogue for Hidden<'_, A> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, x: S::V, p: usize, o: usize, v: usize) -> S::V {
        let (value, derivative) = A::value(s, x);
        if A::KEEPS_DERIVATIVE
            && let Some(kept) = &mut self.derivative
        {
            s.store(derivative, &mut kept.panel_mut(p)[o].0[v]);
        }
        value
    }
}

/// The result times the derivative of the activation.
pub(super) struct Backward<'a, A> {
    pub activation: A,
    pub kept: &'a Panels,
}

impl<A: Activate> Epilogue for Backward<'_, A> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, x: S::V, p: usize, o: usize, v: usize) -> S::V {
        A::backward(s, x, s.load(&self.kept.panel(p)[o].0[v]))
    }
}

/// One product for a block of samples.
pub(super) struct Product<'a, E> {
    pub packed: &'a [f32],
    pub n_out: usize,
    pub n_in: usize,
    pub input: &'a Panels,
    pub output: &'a mut Panels,
    pub extent: Extent,
    pub epilogue: E,
}

impl<E: Epilogue> Job for Product<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for p in 0..self.extent.panels() {
            let vectors = self.extent.vectors(p);
            let input = &self.input.panel(p)[..self.n_in];
            let output = &mut self.output.panel_mut(p)[..self.n_out];
            let mut packed = self.packed;
            let mut first = 0;
            while first < self.n_out {
                let left = self.n_out - first;
                let mut at = At { epilogue: &mut self.epilogue, p, first };
                let out = &mut output[first..];
                let size = if S::ROWS == 8 && left >= 8 {
                    panel_tile::<S, E, 8>(s, packed, input, out, vectors, &mut at)
                } else if S::ROWS >= 4 && left >= 4 {
                    panel_tile::<S, E, 4>(s, packed, input, out, vectors, &mut at)
                } else {
                    panel_tile::<S, E, 2>(s, packed, input, out, vectors, &mut at)
                };
                packed = &packed[size * (self.n_in + 1)..];
                first += size;
            }
        }
    }
}

/// Where a tile lies.
struct At<'a, E> {
    epilogue: &'a mut E,
    p: usize,
    first: usize,
}

/// R outputs of a panel; returns R.
#[inline(always)]
fn panel_tile<S: Simd, E: Epilogue, const R: usize>(
    s: S,
    packed: &[f32],
    input: &[Row],
    out: &mut [Row],
    vectors: usize,
    at: &mut At<'_, E>,
) -> usize {
    let weights = packed.as_chunks::<R>().0;
    match (S::WIDE, vectors) {
        (true, 3) => tile::<S, E, R, 3, 0>(s, weights, input, out, at),
        (true, 2) => tile::<S, E, R, 2, 0>(s, weights, input, out, at),
        (true, _) => tile::<S, E, R, 1, 0>(s, weights, input, out, at),
        (false, _) => {
            tile::<S, E, R, 1, 0>(s, weights, input, out, at);
            if vectors > 1 {
                tile::<S, E, R, 1, 1>(s, weights, input, out, at);
            }
            if vectors > 2 {
                tile::<S, E, R, 1, 2>(s, weights, input, out, at);
            }
        }
    }
    R
}

/// R outputs of N vectors of samples from vector V on, in registers.
#[inline(always)]
fn tile<S: Simd, E: Epilogue, const R: usize, const N: usize, const V: usize>(
    s: S,
    weights: &[[f32; R]],
    input: &[Row],
    out: &mut [Row],
    at: &mut At<'_, E>,
) {
    const { assert!(N + V <= VECTORS) };
    let Some((bias, weights)) = weights.split_first() else { return };
    let mut sum = [[s.splat(0.0); N]; R];
    for r in 0..R {
        sum[r] = [s.splat(bias[r]); N];
    }
    for (w, x) in weights.iter().zip(input) {
        let mut lanes = [s.splat(0.0); N];
        for v in 0..N {
            lanes[v] = s.load(&x.0[V + v]);
        }
        for r in 0..R {
            let w = s.splat(w[r]);
            for v in 0..N {
                sum[r][v] = s.fma(w, lanes[v], sum[r][v]);
            }
        }
    }
    for r in 0..R {
        if let Some(row) = out.get_mut(r) {
            for v in 0..N {
                let value = at.epilogue.finish(s, sum[r][v], at.p, at.first + r, V + v);
                s.store(value, &mut row.0[V + v]);
            }
        }
    }
}
