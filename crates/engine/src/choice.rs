//! Which kernels a flow runs with: from a table by kind of adapter, from an autotuner, or as the caller says.
//! Invariant: a choice changes the speed and the rounding, nothing else; equal choices on one device give equal bits.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DeviceInfo, DeviceKind, EngineError, OptimiserPlace};

/// The kernels of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelPath {
    /// A dispatch per linear map: any shape, any adapter.
    Tiled,
    /// A dispatch per layer and phase, for subgroups of 8 or 16 lanes; layers whose shape does not fit run tiled.
    Fused,
}

/// The shapes of the kernels of a flow. Printed, stored with a model and given back through
/// [`EngineSettings::kernels`](crate::EngineSettings::kernels), it repeats a run to the bit on the same device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelChoice {
    /// The kernels of a layer.
    pub path: KernelPath,
    /// Lanes of a workgroup: 8 or 64.
    pub workgroup: u32,
    /// Rows of the largest register tile of the tiled path: 8 or 16.
    pub tile: u32,
    /// vec4s of samples of that tile: 1 or 2.
    pub vectors: u32,
    /// vec4s of samples per lane of the fused inverse and forward kernels: 1 or 2.
    pub fused_vectors: u32,
    /// Most chunks of samples whose gradients are summed apart.
    pub chunks: u32,
    /// Where the optimiser of a training run is; never `auto`.
    pub optimiser: OptimiserPlace,
}

impl KernelChoice {
    /// What the table says for a device; the same for every flow and every run.
    #[must_use]
    pub fn table(info: &DeviceInfo) -> Self {
        if info.kind == DeviceKind::Software {
            // One subgroup per workgroup, because a workgroup is a loop there; large tiles, because loads are dear; the
            // optimiser on the host, whose memory it is anyway.
            return Self {
                path: KernelPath::Fused,
                workgroup: 8,
                tile: 16,
                vectors: 2,
                fused_vectors: 2,
                chunks: 32,
                optimiser: OptimiserPlace::Host,
            };
        }
        Self {
            path: KernelPath::Tiled,
            workgroup: 64,
            tile: 8,
            vectors: 1,
            fused_vectors: 2,
            chunks: 128,
            optimiser: OptimiserPlace::Device,
        }
    }

    /// The choices that the autotuner times, the table's first. They differ in path and tiles; where the optimiser is
    /// and the order of the sums stay.
    pub(crate) fn candidates(self) -> Vec<Self> {
        let mut all = vec![self];
        let tiles = [(16, 2), (8, 2), (8, 1)];
        all.extend(tiles.map(|(tile, vectors)| Self { path: KernelPath::Tiled, tile, vectors, ..self }));
        all.extend([1, 2].map(|fused_vectors| Self { path: KernelPath::Fused, fused_vectors, ..self }));
        let mut distinct: Vec<Self> = Vec::new();
        all.into_iter().for_each(|c| {
            if !distinct.contains(&c) {
                distinct.push(c);
            }
        });
        distinct
    }

    /// Checks a choice that came from outside.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let allowed = [
            ("workgroup", self.workgroup, &[8, 64][..]),
            ("tile", self.tile, &[8, 16]),
            ("vectors", self.vectors, &[1, 2]),
            ("fused_vectors", self.fused_vectors, &[1, 2]),
        ];
        let choice = |field: &'static str, got: String, expected: String| {
            Err(EngineError::Choice { field, got, expected })
        };
        for (field, got, expected) in allowed {
            if !expected.contains(&got) {
                return choice(field, got.to_string(), format!("one of {expected:?}"));
            }
        }
        if self.tile == 16 && self.vectors == 1 {
            return choice("tile", "16 with vectors 1".into(), "8 with vectors 1, or vectors 2".into());
        }
        if self.chunks == 0 || self.chunks > 1024 {
            return choice("chunks", self.chunks.to_string(), "1 to 1024".into());
        }
        if self.optimiser == OptimiserPlace::Auto {
            return choice("optimiser", "auto".into(), "device or host".into());
        }
        Ok(())
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            KernelPath::Tiled => "tiled",
            KernelPath::Fused => "fused",
        };
        let optimiser = if self.optimiser == OptimiserPlace::Device { "device" } else { "host" };
        write!(
            f,
            "{path} kernels, workgroups of {}, tiles of {} x {}, fused vectors {}, {} chunks, optimiser on the {optimiser}",
            self.workgroup, self.tile, self.vectors, self.fused_vectors, self.chunks
        )
    }
}
