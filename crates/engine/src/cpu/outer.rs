//! Sums over samples of products of two features: the weight gradients dW = sum delta x^T, db = sum delta, and the
//! moments of a mixture base. Invariant: a sum runs over one block in registers and is then added to the chunk's partial
//! sum, so that no chain of additions grows with the number of samples of a block's chunk by more than one per block.

use super::panel::{Extent, PANEL, Panels, VECTORS};
use super::simd::{Job, LANES, Lanes, Simd};

/// Side of a tile of the narrow form.
const SIDE: usize = 4;

/// Sums of `left_i right_j` over samples, `[n_left, n_right]`, and of `left_i`. Where both sides are wide, the right
/// side is transposed, so that a vector holds sixteen of its features and the left side is broadcast; else a vector
/// holds sixteen samples and is summed at the end of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outer {
    pub n_left: usize,
    pub n_right: usize,
}

impl Outer {
    /// Whether the right side is transposed.
    fn wide(self) -> bool {
        self.n_left.min(self.n_right) >= LANES
    }

    /// Vectors of the partial sums.
    pub fn len(self) -> usize {
        match self.left_sums() {
            Some(first) => first + self.n_left.div_ceil(LANES),
            None => self.n_left.div_ceil(SIDE) * self.tiles_right(),
        }
    }

    /// Tiles of the narrow form beside each other.
    fn tiles_right(self) -> usize {
        (self.n_right + usize::from(self.has_ones())).div_ceil(SIDE)
    }

    /// Whether the last tile of the narrow form has room for the row of ones, whose products are the sums of the left.
    fn has_ones(self) -> bool {
        !self.n_right.is_multiple_of(SIDE)
    }

    /// Where the sums of the left begin if they are apart.
    fn left_sums(self) -> Option<usize> {
        if self.wide() {
            Some(self.n_left * self.n_right.div_ceil(LANES))
        } else if self.has_ones() {
            None
        } else {
            Some(self.n_left.div_ceil(SIDE) * self.tiles_right())
        }
    }

    /// Vectors of scratch memory for a block: the widest group of transposed features.
    pub fn scratch(self, panels: usize) -> usize {
        if self.wide() { panels * PANEL * VECTORS } else { 0 }
    }

    /// Hands every sum to `put`: `(i, Some(j), value)` of `left_i right_j`, `(i, None, value)` of `left_i`.
    #[inline]
    pub fn unpack(self, sums: &[Lanes], mut put: impl FnMut(usize, Option<usize>, f32)) {
        if self.wide() {
            let vectors = self.n_right.div_ceil(LANES);
            for (i, row) in sums.chunks_exact(vectors).take(self.n_left).enumerate() {
                for (j, value) in row.iter().flat_map(|lanes| &lanes.0).take(self.n_right).enumerate() {
                    put(i, Some(j), *value);
                }
            }
        } else {
            let tiles = self.tiles_right();
            for (t, tile) in sums.iter().take(self.n_left.div_ceil(SIDE) * tiles).enumerate() {
                let (i, j) = (t / tiles * SIDE, t % tiles * SIDE);
                for (a, row) in tile.0.chunks_exact(SIDE).take(self.n_left - i).enumerate() {
                    for (b, value) in row.iter().take(self.n_right.saturating_sub(j)).enumerate() {
                        put(i + a, Some(j + b), *value);
                    }
                }
            }
        }
        for i in 0..self.n_left {
            let value = match self.left_sums() {
                Some(first) => sums[first + i / LANES].0[i % LANES],
                None => {
                    let tile = (i / SIDE + 1) * self.tiles_right() - 1;
                    sums[tile].0[i % SIDE * SIDE + self.n_right % SIDE]
                }
            };
            put(i, None, value);
        }
    }
}

/// Adds the sums over a block to `sums`, or sets them. Rows of `left` and `right` are padded to a multiple of four, and
/// row `n_right` of `right` is one. Lanes without a sample are zero in `left`.
pub(super) struct AddOuter<'a> {
    pub shape: Outer,
    pub left: &'a Panels,
    pub right: &'a Panels,
    pub extent: Extent,
    pub sums: &'a mut [Lanes],
    pub set: bool,
    pub scratch: &'a mut [Lanes],
}

impl Job for AddOuter<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        if self.shape.wide() {
            self.run_wide(s);
        } else {
            self.run_narrow(s);
        }
        if let Some(first) = self.shape.left_sums() {
            self.add_left(s, first);
        }
    }
}

impl AddOuter<'_> {
    #[inline(always)]
    fn add<S: Simd>(&mut self, s: S, at: usize, value: S::V) {
        let to = &mut self.sums[at];
        let value = if self.set { value } else { s.add(s.load(to), value) };
        s.store(value, to);
    }

    #[inline(always)]
    fn run_narrow<S: Simd>(&mut self, s: S) {
        let (tiles_left, tiles_right) = (self.shape.n_left.div_ceil(SIDE), self.shape.tiles_right());
        for i in 0..tiles_left {
            for j in 0..tiles_right {
                let mut sum = [s.splat(0.0); LANES];
                if S::WIDE {
                    self.corner::<S, SIDE>(s, SIDE * i, SIDE * j, &mut sum, 0);
                } else {
                    for half in 0..4 {
                        let (a, b) = (half / 2 * 2, half % 2 * 2);
                        self.corner::<S, 2>(s, SIDE * i + a, SIDE * j + b, &mut sum, SIDE * a + b);
                    }
                }
                self.add(s, i * tiles_right + j, s.sums(&sum));
            }
        }
    }

    /// N x N products of vectors of samples, into `sum` from `at` on.
    #[inline(always)]
    fn corner<S: Simd, const N: usize>(&self, s: S, i: usize, j: usize, sum: &mut [S::V; LANES], at: usize) {
        let mut corner = [[s.splat(0.0); N]; N];
        for p in 0..self.extent.panels() {
            let left = &self.left.panel(p)[i..i + N];
            let right = &self.right.panel(p)[j..j + N];
            for v in 0..self.extent.vectors(p) {
                let mut r = [s.splat(0.0); N];
                for b in 0..N {
                    r[b] = s.load(&right[b].0[v]);
                }
                for a in 0..N {
                    let l = s.load(&left[a].0[v]);
                    for b in 0..N {
                        corner[a][b] = s.fma(l, r[b], corner[a][b]);
                    }
                }
            }
        }
        for a in 0..N {
            for b in 0..N {
                sum[at + SIDE * a + b] = corner[a][b];
            }
        }
    }

    #[inline(always)]
    fn run_wide<S: Simd>(&mut self, s: S) {
        let vectors = self.shape.n_right.div_ceil(LANES);
        let mut first = 0;
        while first < vectors {
            let left = vectors - first;
            first += match (S::WIDE, left) {
                (true, 3 | 5..) => self.group::<S, 3>(s, first, vectors),
                (true, 2 | 4) => self.group::<S, 2>(s, first, vectors),
                _ => self.group::<S, 1>(s, first, vectors),
            };
        }
    }

    /// The sums with N vectors of right features from vector `first` on; returns N.
    #[inline(always)]
    fn group<S: Simd, const N: usize>(&mut self, s: S, first: usize, vectors: usize) -> usize {
        let panels = self.extent.panels();
        // [panels, 48, N]: one sample after the other.
        let strips = self.scratch.as_chunks_mut::<N>().0;
        for (p, strip) in strips.chunks_exact_mut(PANEL).take(panels).enumerate() {
            let rows = &self.right.panel(p)[..self.shape.n_right];
            for n in 0..N {
                let features = &rows[((first + n) * LANES).min(rows.len())..];
                for v in 0..self.extent.vectors(p) {
                    let mut square = [s.splat(0.0); LANES];
                    if let Some(features) = features.first_chunk::<LANES>() {
                        for i in 0..LANES {
                            square[i] = s.load(&features[i].0[v]);
                        }
                    } else {
                        for (i, row) in features.iter().enumerate() {
                            square[i] = s.load(&row.0[v]);
                        }
                    }
                    s.transpose(&mut square);
                    if let Some(samples) = strip[v * LANES..].first_chunk_mut::<LANES>() {
                        for i in 0..LANES {
                            s.store(square[i], &mut samples[i][n]);
                        }
                    }
                }
            }
        }
        let mut i = 0;
        while i < self.shape.n_left {
            let left = self.shape.n_left - i;
            i += if S::ROWS == 8 && left > 4 {
                self.rows::<S, 8, N>(s, i, first, vectors)
            } else if S::ROWS >= 4 && left > 2 {
                self.rows::<S, 4, N>(s, i, first, vectors)
            } else {
                self.rows::<S, 2, N>(s, i, first, vectors)
            };
        }
        N
    }

    /// R left features from `i` on with N vectors of right features; returns R.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const N: usize>(
        &mut self,
        s: S,
        i: usize,
        first: usize,
        vectors: usize,
    ) -> usize {
        let panels = self.extent.panels();
        let strips = self.scratch.as_chunks::<N>().0;
        let mut sum = [[s.splat(0.0); N]; R];
        for (p, strip) in strips.chunks_exact(PANEL).take(panels).enumerate() {
            let panel = self.left.panel(p);
            let mut left = [&panel[i]; R];
            for (r, row) in left.iter_mut().enumerate() {
                *row = &panel[(i + r).min(self.shape.n_left - 1)];
            }
            // The lanes beyond the last sample have no weight.
            for (v, samples) in strip.as_chunks::<LANES>().0.iter().take(self.extent.vectors(p)).enumerate() {
                for lane in 0..LANES {
                    let mut right = [s.splat(0.0); N];
                    for n in 0..N {
                        right[n] = s.load(&samples[lane][n]);
                    }
                    for r in 0..R {
                        let l = s.splat(left[r].0[v].0[lane]);
                        for n in 0..N {
                            sum[r][n] = s.fma(l, right[n], sum[r][n]);
                        }
                    }
                }
            }
        }
        for r in 0..R.min(self.shape.n_left - i) {
            for n in 0..N {
                self.add(s, (i + r) * vectors + first + n, sum[r][n]);
            }
        }
        R
    }

    /// The sums of the left features alone.
    #[inline(always)]
    fn add_left<S: Simd>(&mut self, s: S, at: usize) {
        for i in 0..self.shape.n_left.div_ceil(LANES) {
            let mut sum = [s.splat(0.0); LANES];
            for p in 0..self.extent.panels() {
                let rows = &self.left.panel(p)[i * LANES..self.shape.n_left];
                for (sum, row) in sum.iter_mut().zip(rows) {
                    for v in 0..self.extent.vectors(p) {
                        *sum = s.add(*sum, s.load(&row.0[v]));
                    }
                }
            }
            self.add(s, at + i, s.sums(&sum));
        }
    }
}

/// Adds partial sums in the order of the chunks: `out = (or +=) sum over chunks`.
pub(super) struct Reduce<'a> {
    pub partials: &'a [&'a [Lanes]],
    pub out: &'a mut [Lanes],
}

impl Job for Reduce<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, out) in self.out.iter_mut().enumerate() {
            let mut sum = s.splat(0.0);
            for partial in self.partials {
                sum = s.add(sum, s.load(&partial[i]));
            }
            s.store(sum, out);
        }
    }
}
