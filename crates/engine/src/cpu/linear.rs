//! Products of a matrix with panels: y = W x + b, and with W transposed for the backward pass, activation or its
//! derivative applied before the result leaves the registers. Invariant: a sample's result does not depend on where
//! in a block it lies; every tile shape adds the same terms in the same order.

use super::math::Activate;
use super::panel::{Extent, Panels, Row, VECTORS};
use super::simd::{Job, Lanes, Simd};

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

/// Packs a matrix `[n_out, n_in]`, one of whose strides is 1, with its bias (or zeros): per tile of outputs the biases,
/// then the weights of one input after the other. Outputs beyond n_out get zeros.
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
        if n < size {
            body.fill(0.0);
        }
        if stride_out == 1 {
            for (i, column) in body.chunks_exact_mut(size).enumerate() {
                column[..n].copy_from_slice(&weights[i * stride_in + first..][..n]);
            }
        } else {
            for r in 0..n {
                let row = &weights[(first + r) * stride_out..][..n_in];
                for (column, &value) in body.chunks_exact_mut(size).zip(row) {
                    column[r] = value;
                }
            }
        }
    }
}

/// What becomes of a result before it is stored. `beside` is the same place in a second array.
pub(super) trait Epilogue {
    /// Whether there is a second array.
    const BESIDE: bool;
    /// The value to store.
    fn finish<S: Simd>(s: S, x: S::V, beside: Option<&mut Lanes>) -> S::V;
}

/// The result as it is.
pub(super) struct Plain;

impl Epilogue for Plain {
    const BESIDE: bool = false;
    #[inline(always)]
    fn finish<S: Simd>(_: S, x: S::V, _: Option<&mut Lanes>) -> S::V {
        x
    }
}

/// The activation of the result; its derivative beside it, if it is kept at all.
pub(super) struct Hidden<A>(pub A);

impl<A: Activate> Epilogue for Hidden<A> {
    const BESIDE: bool = A::KEEPS_DERIVATIVE;
    #[inline(always)]
    fn finish<S: Simd>(s: S, x: S::V, beside: Option<&mut Lanes>) -> S::V {
        let (value, derivative) = A::value(s, x);
        if let Some(beside) = beside {
            s.store(derivative, beside);
        }
        value
    }
}

/// The result times the derivative of the activation, from what was kept beside.
pub(super) struct Backward<A>(pub A);

impl<A: Activate> Epilogue for Backward<A> {
    const BESIDE: bool = true;
    #[inline(always)]
    fn finish<S: Simd>(s: S, x: S::V, beside: Option<&mut Lanes>) -> S::V {
        match beside {
            Some(kept) => A::backward(s, x, s.load(kept)),
            None => x,
        }
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
    /// The second array of the epilogue, if it has one.
    pub beside: Option<&'a mut Panels>,
    #[expect(dead_code, reason = "its type says what it does, and inference wants a value")]
    pub epilogue: E,
}

impl<E: Epilogue> Job for Product<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for p in 0..self.extent.panels() {
            let vectors = self.extent.vectors(p);
            let input = &self.input.panel(p)[..self.n_in];
            let mut out = &mut self.output.panel_mut(p)[..self.n_out];
            let mut beside = match &mut self.beside {
                Some(beside) if E::BESIDE => &mut beside.panel_mut(p)[..self.n_out],
                _ => &mut [],
            };
            let mut packed = self.packed;
            while !out.is_empty() {
                let size = if S::ROWS == 8 && out.len() >= 8 {
                    panel_tile::<S, E, 8>(s, packed, input, out, beside, vectors)
                } else if S::ROWS >= 4 && out.len() >= 4 {
                    panel_tile::<S, E, 4>(s, packed, input, out, beside, vectors)
                } else {
                    panel_tile::<S, E, 2>(s, packed, input, out, beside, vectors)
                };
                packed = &packed[size * (self.n_in + 1)..];
                out = out.get_mut(size..).unwrap_or_default();
                beside = beside.get_mut(size..).unwrap_or_default();
            }
        }
    }
}

/// R outputs of a panel; returns R.
#[inline(always)]
fn panel_tile<S: Simd, E: Epilogue, const R: usize>(
    s: S,
    packed: &[f32],
    input: &[Row],
    out: &mut [Row],
    beside: &mut [Row],
    vectors: usize,
) -> usize {
    let weights = packed.as_chunks::<R>().0;
    match (S::WIDE, vectors) {
        (true, 3) => tile::<S, E, R, 3, 0>(s, weights, input, out, beside),
        (true, 2) => tile::<S, E, R, 2, 0>(s, weights, input, out, beside),
        (true, _) => tile::<S, E, R, 1, 0>(s, weights, input, out, beside),
        (false, _) => {
            tile::<S, E, R, 1, 0>(s, weights, input, out, beside);
            if vectors > 1 {
                tile::<S, E, R, 1, 1>(s, weights, input, out, beside);
            }
            if vectors > 2 {
                tile::<S, E, R, 1, 2>(s, weights, input, out, beside);
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
    beside: &mut [Row],
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
    // Whole tiles stay in registers; only one that reaches beyond the outputs goes through memory.
    if let Some(out) = out.first_chunk_mut::<R>() {
        if E::BESIDE {
            let Some(beside) = beside.first_chunk_mut::<R>() else { return };
            for r in 0..R {
                for v in 0..N {
                    let value = E::finish(s, sum[r][v], Some(&mut beside[r].0[V + v]));
                    s.store(value, &mut out[r].0[V + v]);
                }
            }
        } else {
            for r in 0..R {
                for v in 0..N {
                    s.store(E::finish(s, sum[r][v], None), &mut out[r].0[V + v]);
                }
            }
        }
        return;
    }
    let mut stored = [[Lanes::ZERO; N]; R];
    for r in 0..R {
        for v in 0..N {
            s.store(sum[r][v], &mut stored[r][v]);
        }
    }
    for (r, out) in out.iter_mut().enumerate() {
        for v in 0..N {
            let beside = beside.get_mut(r).map(|row| &mut row.0[V + v]);
            s.store(E::finish(s, s.load(&stored[r][v]), beside), &mut out.0[V + v]);
        }
    }
}
