//! Products of small matrices in f32 with the widest vectors of the processor, for the classifier; pulp picks them at run time.
//! Invariant: rows in memory are padded to whole vectors ([`columns`]), so that no loop has a rest of columns.

use pulp::Simd;

/// Values of the widest vector.
const LANES: usize = 16;

/// The columns of a matrix in memory.
pub(super) const fn columns(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// The left matrix of a product: its memory, and the step from one row of the memory to the next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand<'a> {
    /// As it is.
    Rows(&'a [f32], usize),
    /// The transposed of what lies in memory.
    Columns(&'a [f32], usize),
}

/// Adds the product of A, `[m, k]`, and `b`, `[k, n]`, to `c`, `[m, n]`. `panel` is memory to work in.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    a: Operand<'_>,
    b: &[f32],
    n: usize,
    c: &mut [f32],
    panel: &mut Vec<f32>,
) {
    if S::REGISTER_COUNT >= 32 {
        by_panels::<S, 8>(simd, a, b, n, c, panel);
    } else {
        by_panels::<S, 6>(simd, a, b, n, c, panel);
    }
}

/// Rows of A in panels, `[k, ROWS]`, the last of which is filled up by zeros.
#[inline(always)]
fn by_panels<S: Simd, const ROWS: usize>(
    simd: S,
    a: Operand<'_>,
    b: &[f32],
    n: usize,
    c: &mut [f32],
    panel: &mut Vec<f32>,
) {
    let k = b.len() / n;
    let (b, _) = S::as_simd_f32s(b);
    let n_vectors = n / S::F32_LANES;
    panel.clear();
    panel.resize(k * ROWS, 0.0);
    for (p, c) in c.chunks_mut(ROWS * n).enumerate() {
        let n_rows = c.len() / n;
        if n_rows < ROWS {
            panel.fill(0.0);
        }
        match a {
            Operand::Rows(a, step) => {
                for (r, row) in a.chunks_exact(step).skip(p * ROWS).take(n_rows).enumerate() {
                    for (panel, value) in panel.chunks_exact_mut(ROWS).zip(row) {
                        panel[r] = *value;
                    }
                }
            }
            Operand::Columns(a, step) => {
                for (panel, column) in panel.chunks_exact_mut(ROWS).zip(a.chunks_exact(step)) {
                    panel[..n_rows].copy_from_slice(&column[p * ROWS..][..n_rows]);
                }
            }
        }
        let (c, _) = S::as_mut_simd_f32s(c);
        let mut column = 0;
        while column + 2 <= n_vectors {
            tile::<S, ROWS, 2>(simd, panel, b, n_vectors, c, column);
            column += 2;
        }
        if column < n_vectors {
            tile::<S, ROWS, 1>(simd, panel, b, n_vectors, c, column);
        }
    }
}

/// Some vectors of the rows of one panel, whose sums stay in registers.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    panel: &[f32],
    b: &[S::f32s],
    n_vectors: usize,
    c: &mut [S::f32s],
    column: usize,
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; VECTORS]; ROWS];
    for (a, b) in panel.chunks_exact(ROWS).zip(b.chunks_exact(n_vectors)) {
        let b = &b[column..column + VECTORS];
        for r in 0..ROWS {
            let a = simd.splat_f32s(a[r]);
            for v in 0..VECTORS {
                sums[r][v] = simd.mul_add_f32s(a, b[v], sums[r][v]);
            }
        }
    }
    for (sums, c) in sums.iter().zip(c.chunks_exact_mut(n_vectors)) {
        let c = &mut c[column..column + VECTORS];
        for v in 0..VECTORS {
            c[v] = simd.add_f32s(c[v], sums[v]);
        }
    }
}

/// `to`, `[n, m]` with `to_columns` in memory, of `from`, `[m, n]` with `from_columns`.
#[inline(always)]
pub(super) fn transpose(
    from: &[f32],
    from_columns: usize,
    m: usize,
    n: usize,
    to_columns: usize,
    to: &mut [f32],
) {
    for (i, row) in from.chunks_exact(from_columns).take(m).enumerate() {
        for (j, value) in row[..n].iter().enumerate() {
            to[j * to_columns + i] = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Both<'a> {
        a: Operand<'a>,
        b: &'a [f32],
        n: usize,
        c: &'a mut [f32],
    }

    impl WithSimd for Both<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            product(simd, self.a, self.b, columns(self.n), self.c, &mut Vec::new());
        }
    }

    #[test]
    fn products_are_added_whatever_the_sizes() {
        for (m, k, n) in [(1, 1, 1), (7, 5, 3), (8, 16, 17), (13, 33, 32), (20, 2, 49), (50, 10, 100)] {
            let value = |i: usize, j: usize| ((3 * i + 7 * j) % 11) as f32 - 5.0;
            let matrix = |rows: usize, n: usize, of: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
                (0..rows * columns(n))
                    .map(|p| (p / columns(n), p % columns(n)))
                    .map(|(i, j)| if j < n { of(i, j) } else { 0.0 })
                    .collect()
            };
            let a = matrix(m, k, &value);
            let mut turned = vec![0.0; k * columns(m)];
            transpose(&a, columns(k), m, k, columns(m), &mut turned);
            let b = matrix(k, n, &|i, j| value(j, i));
            for arch in [Arch::new(), Arch::Scalar] {
                for a in [Operand::Rows(&a, columns(k)), Operand::Columns(&turned, columns(m))] {
                    let mut c = matrix(m, n, &|_, _| 1.0);
                    arch.dispatch(Both { a, b: &b, n, c: &mut c });
                    // Small whole numbers: exact.
                    let expected =
                        matrix(m, n, &|i, j| 1.0 + (0..k).map(|l| value(i, l) * value(j, l)).sum::<f32>());
                    assert_eq!(c, expected, "{m} {k} {n} {arch:?} {a:?}");
                }
            }
        }
    }
}
