//! The passes of a flow: what is recorded for each layer and for the base, behind one face per kind of kernel path.
//! Invariant: a plan states its needs before any buffer exists; a pass owns bind groups only and records in place
//! on the batch's arrays, so that paths can be mixed freely from layer to layer.

mod base;
mod conditioner;
mod fused_coupling;
mod tiled_coupling;

use lwflow_model::{FlowSpec, LayerSpec, LinearBlock};

use super::recording::{BatchDims, Recorder, StepBuilder};
use super::{Gpu, Need, Span};
use crate::{EngineError, KernelChoice};
pub(crate) use base::{BasePass, BasePlan, BaseTraining};
use fused_coupling::{FusedCoupling, FusedCouplingPlan};
use tiled_coupling::{TiledCoupling, TiledCouplingPlan};

/// The regions of the flows' buffers that belong to one layer or to the base.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub params: Span<'a>,
    pub grads: Span<'a>,
}

/// A layer with its kernel path chosen: sizes and the translation of its parameters.
#[derive(Debug)]
pub(crate) enum LayerPlan {
    /// Any shape, any adapter.
    Tiled(TiledCouplingPlan),
    /// Affine couplings with two hidden layers on a software adapter.
    Fused(FusedCouplingPlan),
}

impl LayerPlan {
    /// The path of layer `l`: the choice's where the layer's shape and the device fit it.
    pub fn new(
        spec: &FlowSpec,
        l: usize,
        layer: &LayerSpec,
        linears: &[LinearBlock],
        gpu: &Gpu,
        choice: &KernelChoice,
    ) -> Self {
        let fused = match layer {
            LayerSpec::AffineCoupling(coupling) => {
                FusedCouplingPlan::new(spec.context_dim, l, coupling, linears, gpu, choice)
            }
            LayerSpec::SplineCoupling(_) => None,
        };
        match fused {
            Some(plan) => Self::Fused(plan),
            None => Self::Tiled(TiledCouplingPlan::new(spec.context_dim, l, layer, linears, choice)),
        }
    }

    /// Whether it is on the fused path.
    pub fn is_fused(&self) -> bool {
        matches!(self, Self::Fused(_))
    }

    /// Floats of the layer's parameter region.
    pub fn n_params(&self) -> usize {
        match self {
            Self::Tiled(plan) => plan.n_params(),
            Self::Fused(plan) => plan.n_params(),
        }
    }

    /// Floats of the layer's gradient region.
    pub fn n_grads(&self) -> usize {
        match self {
            Self::Tiled(plan) => plan.n_grads(),
            Self::Fused(plan) => plan.n_grads(),
        }
    }

    /// Scratch of the layer.
    pub fn need(&self) -> Need {
        match self {
            Self::Tiled(plan) => plan.need(),
            Self::Fused(plan) => plan.need(),
        }
    }

    /// Writes the layer's parameters from the flow's flat vector into its region; a pure copy, so that the indices of
    /// the parameters come out as the map of the packing.
    pub fn pack<T: Copy + Default>(&self, params: &[T], region: &mut [T]) {
        match self {
            Self::Tiled(plan) => plan.pack(params, region),
            Self::Fused(plan) => plan.pack(params, region),
        }
    }

    /// Writes the layer's part of the flat gradient from its region.
    pub fn unpack_grad<T: Copy>(&self, region: &[T], grad: &mut [T]) {
        match self {
            Self::Tiled(plan) => plan.unpack_grad(region, grad),
            Self::Fused(plan) => plan.unpack_grad(region, grad),
        }
    }

    /// Makes the bind groups.
    pub fn bind(&self, builder: &mut StepBuilder<'_>, place: Place<'_>) -> Result<LayerPass, EngineError> {
        Ok(match self {
            Self::Tiled(plan) => LayerPass::Tiled(plan.bind(builder, place)?),
            Self::Fused(plan) => LayerPass::Fused(plan.bind(builder, place)?),
        })
    }
}

/// A layer ready to be recorded.
#[derive(Debug)]
pub(crate) enum LayerPass {
    /// Any shape, any adapter.
    Tiled(TiledCoupling),
    /// Affine couplings with two hidden layers on a software adapter.
    Fused(FusedCoupling),
}

impl LayerPass {
    /// Data to base: x and log_det in place.
    pub fn record_inverse(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        match self {
            Self::Tiled(layer) => layer.record_inverse(pass, dims),
            Self::Fused(layer) => layer.record_inverse(pass, dims),
        }
    }

    /// Base to data: x and log_det in place.
    pub fn record_forward(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        match self {
            Self::Tiled(layer) => layer.record_forward(pass, dims),
            Self::Fused(layer) => layer.record_forward(pass, dims),
        }
    }

    /// Gradient of the loss through `inverse`: x and g from the layer's base side to its data side, adding to
    /// g_context and to the layer's gradient region.
    pub fn record_backward(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        match self {
            Self::Tiled(layer) => layer.record_backward(pass, dims),
            Self::Fused(layer) => layer.record_backward(pass, dims),
        }
    }
}
