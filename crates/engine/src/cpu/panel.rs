//! Arrays of a block of samples, feature-major in panels of 48 samples: `[panels, rows, 48]`, a row being one feature.
//! Invariant: lanes beyond the last sample repeat that sample, so they hold nothing that it does not hold.

use super::simd::{LANES, Lanes};

/// Vectors of a row.
pub(super) const VECTORS: usize = 3;
/// Samples of a panel.
pub(super) const PANEL: usize = VECTORS * LANES;

/// One feature of the samples of a panel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub(super) struct Row(pub [Lanes; VECTORS]);

impl Row {
    /// A feature that is `value` everywhere.
    pub const fn of(value: f32) -> Self {
        Self([Lanes([value; LANES]); VECTORS])
    }
}

/// How many samples of a block there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Samples, at least 1.
    pub samples: usize,
}

impl Extent {
    /// Panels, the last one perhaps not full.
    pub fn panels(self) -> usize {
        self.samples.div_ceil(PANEL)
    }

    /// Vectors of a panel that hold samples.
    pub fn vectors(self, panel: usize) -> usize {
        (self.samples - panel * PANEL).div_ceil(LANES).min(VECTORS)
    }
}

/// An array `[panels, stride]` of rows.
#[derive(Debug)]
pub(super) struct Panels {
    rows: Vec<Row>,
    stride: usize,
}

impl Panels {
    /// Zeros.
    pub fn new(panels: usize, stride: usize) -> Self {
        Self { rows: vec![Row::of(0.0); panels * stride], stride }
    }

    /// Zeros for `features`, then a row of ones, then zeros up to a multiple of four rows: the input of a linear map,
    /// whose bias is the weight of the ones.
    pub fn with_ones(panels: usize, features: usize) -> Self {
        let mut out = Self::new(panels, (features + 1).next_multiple_of(4));
        for p in 0..panels {
            out.panel_mut(p)[features] = Row::of(1.0);
        }
        out
    }

    /// Rows of panel `p`.
    #[inline(always)]
    pub fn panel(&self, p: usize) -> &[Row] {
        &self.rows[p * self.stride..][..self.stride]
    }

    /// Rows of panel `p`.
    #[inline(always)]
    pub fn panel_mut(&mut self, p: usize) -> &mut [Row] {
        &mut self.rows[p * self.stride..][..self.stride]
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.rows[..])
    }

    /// Takes over samples `[n, width]`, beginning at row `first`; the last sample is repeated up to the panel's end.
    pub fn read(&mut self, extent: Extent, first: usize, width: usize, samples: &[f32]) {
        if width == 0 {
            return;
        }
        for p in 0..extent.panels() {
            let rows = &mut self.rows[p * self.stride + first..][..width];
            for v in 0..extent.vectors(p) {
                let at = p * PANEL + v * LANES;
                let n = LANES.min(extent.samples - at);
                for (lane, sample) in samples[at * width..][..n * width].chunks_exact(width).enumerate() {
                    for (row, &value) in rows.iter_mut().zip(sample) {
                        row.0[v].0[lane] = value;
                    }
                }
                for row in rows.iter_mut() {
                    let last = row.0[v].0[n - 1];
                    row.0[v].0[n..].fill(last);
                }
            }
        }
    }

    /// Takes over one value per sample into row `at`, and `padding` beyond the last one.
    pub fn read_padded(&mut self, extent: Extent, at: usize, values: &[f32], padding: f32) {
        for p in 0..extent.panels() {
            let row = &mut self.panel_mut(p)[at];
            for v in 0..extent.vectors(p) {
                let first = p * PANEL + v * LANES;
                let n = LANES.min(extent.samples - first);
                row.0[v].0[..n].copy_from_slice(&values[first..][..n]);
                row.0[v].0[n..].fill(padding);
            }
        }
    }

    /// Sets the lanes beyond the last sample to zero in the first `width` rows, as sums over samples want them.
    pub fn clear_beyond(&mut self, extent: Extent, width: usize) {
        let (panel, at) = (extent.panels() - 1, (extent.samples - 1) % PANEL + 1);
        for row in &mut self.panel_mut(panel)[..width] {
            for lane in at..PANEL {
                row.0[lane / LANES].0[lane % LANES] = 0.0;
            }
        }
    }

    /// Writes rows `first..first + width` as samples `[n, width]`.
    pub fn write(&self, extent: Extent, first: usize, width: usize, samples: &mut [f32]) {
        if width == 0 {
            return;
        }
        for (i, sample) in samples.chunks_exact_mut(width).take(extent.samples).enumerate() {
            let rows = &self.rows[i / PANEL * self.stride + first..][..width];
            let (v, lane) = (i % PANEL / LANES, i % LANES);
            for (value, row) in sample.iter_mut().zip(rows) {
                *value = row.0[v].0[lane];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_with_the_last_sample_repeated() {
        for n in [1, 15, 16, 17, 47, 48, 49, 100] {
            let samples: Vec<f32> = (0..3 * n).map(|v| v as f32).collect();
            let extent = Extent { samples: n };
            let mut panels = Panels::new(extent.panels(), 5);
            panels.read(extent, 1, 3, &samples);
            panels.read_padded(extent, 4, &samples[..n], -1.0);
            let mut back = vec![0.0; 3 * n];
            panels.write(extent, 1, 3, &mut back);
            assert_eq!(back, samples);
            let last = extent.panels() - 1;
            let mut cleared = Panels::new(extent.panels(), 3);
            cleared.read(extent, 0, 3, &samples);
            cleared.clear_beyond(extent, 2);
            for lane in 0..PANEL {
                let i = last * PANEL + lane;
                let value = |row: usize| cleared.panel(last)[row].0[lane / LANES].0[lane % LANES];
                assert_eq!(value(1), if i < n { samples[3 * i + 1] } else { 0.0 });
                assert!(i >= n || value(2) == samples[3 * i + 2]);
            }
            for lane in 0..extent.vectors(last) * LANES {
                let i = (last * PANEL + lane).min(n - 1);
                let rows = panels.panel(last);
                assert_eq!(rows[2].0[lane / LANES].0[lane % LANES], samples[3 * i + 1]);
                let padded = if last * PANEL + lane < n { samples[i] } else { -1.0 };
                assert_eq!(rows[4].0[lane / LANES].0[lane % LANES], padded);
            }
        }
    }
}
