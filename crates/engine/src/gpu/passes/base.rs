//! The base distribution on the device: log density, gradient with respect to z, and the per-component sums from
//! which the model makes the gradient of a mixture's parameters in f64.

use lwflow_model::{BaseSpec, Covariance, FlowSpec, MixtureBase, MixtureSpec, MixtureStatistics};
use lwflow_shaders::Constants;

use super::Place;
use super::conditioner::reduce;
use super::tiled_coupling::u32_buffer;
use crate::gpu::pipeline::Bound;
use crate::gpu::recording::{BatchDims, Grid, Recorder, Step, StepBuilder, record_all};
use crate::gpu::uniform::Value;
use crate::gpu::{Need, Span, round_up};
use crate::{EngineError, KernelChoice};

/// Log weight of a component that only another flow has: nothing of it is left in any sum, and it gets no gradient. It is below
/// what mixture_log_prob takes for the least term.
const ABSENT: f32 = f32::MIN;

/// Sizes of the bases of flows that differ in nothing but the number of components.
#[derive(Debug)]
pub(crate) struct BasePlan {
    dim: usize,
    workgroup: u32,
    mixture: Option<MixturePlan>,
}

#[derive(Debug)]
struct MixturePlan {
    /// That of the flow with the most components.
    spec: MixtureSpec,
    /// Components of each flow.
    n_components: Vec<usize>,
    dim: usize,
}

fn mixture_of(spec: &FlowSpec) -> Option<&MixtureSpec> {
    match &spec.base {
        BaseSpec::Gaussian => None,
        BaseSpec::Mixture(mixture) => Some(mixture),
    }
}

impl BasePlan {
    /// The bases of `specs`, which agree in everything else.
    pub fn new(specs: &[FlowSpec], choice: &KernelChoice) -> Self {
        let dim = specs.first().map_or(0, |spec| spec.dim);
        let mixtures: Vec<&MixtureSpec> = specs.iter().filter_map(mixture_of).collect();
        let n_components: Vec<usize> = mixtures.iter().map(|m| m.n_components).collect();
        let widest = mixtures.into_iter().max_by_key(|m| m.n_components).cloned();
        let mixture = widest.map(|spec| MixturePlan { spec, n_components, dim });
        Self { dim, workgroup: choice.workgroup, mixture }
    }

    /// Floats of the base's parameter region.
    pub fn n_params(&self) -> usize {
        self.mixture.as_ref().map_or(0, |m| m.spec.n_components * m.stride())
    }

    /// Floats of the base's gradient region: the statistics of a trainable mixture.
    pub fn n_grads(&self) -> usize {
        match &self.mixture {
            Some(m) if m.spec.trainable => round_up(m.spec.n_components * m.n_statistics(), 4),
            _ => 0,
        }
    }

    /// Scratch of the base.
    pub fn need(&self) -> Need {
        let mut need = Need::default();
        if let Some(m) = &self.mixture {
            need.rows("base/y", m.spec.n_components * round_up(m.dim, 4));
            need.rows("base/w_rho", m.spec.n_components);
            need.partial(self.n_grads());
        }
        need
    }

    /// Packs the base's slice of a flow's flat parameters (`params[layout.base..]`); derived quantities come from f64.
    pub fn pack(&self, flow: usize, params: &[f32], region: &mut [f32]) {
        if let Some(m) = &self.mixture {
            m.pack(flow, params, region);
        }
    }

    /// The gradient of the base's slice from its region, for the parameters that [`BasePlan::pack`] got.
    pub fn unpack_grad(&self, flow: usize, params: &[f32], region: &[f32], grad: &mut [f32]) {
        if let Some(m) = &self.mixture
            && m.spec.trainable
        {
            m.unpack_grad(flow, params, region, grad);
        }
    }

    /// Makes the steps that keep mixtures' parameters on the device: a flow's part of `state` begins with its flat
    /// parameters, the mixture's from `base` on, and `gradient` has the flat gradients.
    pub fn bind_training(
        &self,
        builder: &mut StepBuilder<'_>,
        place: Place<'_>,
        base: usize,
        state: Span<'_>,
        gradient: Span<'_>,
    ) -> Result<BaseTraining, EngineError> {
        let mut steps = BaseTraining::default();
        let Some(mixture) = self.mixture.as_ref().filter(|m| m.spec.trainable) else { return Ok(steps) };
        let spec = &mixture.spec;
        let workgroup = self.workgroup;
        let constants =
            Constants::new().with("workgroup", workgroup).with("full", spec.covariance == Covariance::Full);
        let log_norm = -0.5 * self.dim as f64 * (2.0 * std::f64::consts::PI).ln();
        let shape = [
            ("base", (base as u32).into()),
            ("dim", (self.dim as u32).into()),
            ("stride", (mixture.stride() as u32).into()),
            ("inverse_offset", ((4 + round_up(self.dim, 4)) as u32).into()),
            ("weight_floor", (spec.weight_floor as f32).into()),
            ("log_norm", (log_norm as f32).into()),
            ("n_state", (state.stride as u32).into()),
            ("n_packed", (place.params.stride as u32).into()),
            ("n_grads", (place.grads.stride as u32).into()),
            ("n_params", (gradient.stride as u32).into()),
        ];
        let (params, grads) = (place.params, place.grads);
        let ((offset, size), (grad_offset, grad_size)) = (params.bytes(), grads.bytes());
        let grid = |n: usize| Grid::Flows { groups: (n as u32).div_ceil(workgroup) };
        let state = ("state", Bound::Read(state.buffer));
        let counts: Vec<u32> = mixture.n_components.iter().map(|&k| k as u32).collect();
        let components = u32_buffer(builder.gpu, "base/components", &counts)?;
        let components = ("components", Bound::Read(&components));
        let buffers = [state, components, ("mixture", Bound::WriteRange(params.buffer, offset, size))];
        let n = spec.n_components * self.dim;
        steps.pack.push(builder.step("mixture_pack", &constants, grid(n), &shape, &buffers)?);
        let buffers = [
            state,
            components,
            ("mixture", Bound::ReadRange(params.buffer, offset, size)),
            ("statistics", Bound::ReadRange(grads.buffer, grad_offset, grad_size)),
            ("gradient", Bound::Write(gradient.buffer)),
        ];
        let n = spec.n_components * mixture.n_statistics();
        steps.gradient.push(builder.step("mixture_parameter_grad", &constants, grid(n), &shape, &buffers)?);
        Ok(steps)
    }

    /// Makes all steps.
    pub fn bind(&self, builder: &mut StepBuilder<'_>, place: Place<'_>) -> Result<BasePass, EngineError> {
        match &self.mixture {
            None => self.bind_gaussian(builder),
            Some(mixture) => self.bind_mixture(builder, place, mixture),
        }
    }

    fn bind_gaussian(&self, builder: &mut StepBuilder<'_>) -> Result<BasePass, EngineError> {
        let batch = builder.batch;
        let constants = Constants::new().with("workgroup", self.workgroup);
        let log_norm = -0.5 * self.dim as f64 * (2.0 * std::f64::consts::PI).ln();
        let shape = [("dim", (self.dim as u32).into()), ("log_norm", (log_norm as f32).into())];
        let grid = Grid::Samples { vec4s: self.workgroup, rows: 1 };
        let mut buffers = vec![
            ("x", Bound::Read(&batch.x)),
            ("log_det", Bound::Read(&batch.log_det)),
            ("log_q", Bound::Write(&batch.log_q)),
        ];
        let plain = constants.clone().with("gradient", false);
        let log_prob = vec![builder.step("gaussian_base", &plain, grid, &shape, &buffers)?];
        buffers.extend([
            ("weight", Bound::Read(&batch.weight)),
            ("log_inv_proposal", Bound::Read(&batch.log_inv_proposal)),
            ("w_eff", Bound::Write(&batch.w_eff)),
            ("g", Bound::Write(&batch.g)),
        ]);
        let constants = constants.with("gradient", true);
        let gradient = vec![builder.step("gaussian_base", &constants, grid, &shape, &buffers)?];
        Ok(BasePass { log_prob, gradient })
    }

    fn bind_mixture(
        &self,
        builder: &mut StepBuilder<'_>,
        place: Place<'_>,
        mixture: &MixturePlan,
    ) -> Result<BasePass, EngineError> {
        let batch = builder.batch;
        let constants = Constants::new().with("workgroup", self.workgroup);
        let full = constants.clone().with("full", mixture.spec.covariance == Covariance::Full);
        let k = mixture.spec.n_components as u32;
        let n_blocks = (self.dim as u32).div_ceil(4);
        let rows = |rows: u32| Grid::FlowSamples { vec4s: self.workgroup, rows };
        let params = place.params;
        let (offset, size) = params.bytes();
        let packed = ("mixture", Bound::ReadRange(params.buffer, offset, size));
        let (y, w_rho) = (batch.scratch("base/y")?, batch.scratch("base/w_rho")?);
        let shape: [(&str, Value); 7] = [
            ("dim", (self.dim as u32).into()),
            ("n_components", k.into()),
            ("n_blocks", n_blocks.into()),
            params.flow4(),
            ("stride4", (mixture.stride() as u32 / 4).into()),
            ("mean_offset4", 1.into()),
            ("inverse_offset4", (1 + n_blocks).into()),
        ];
        // The first pass is needed by both ways, so each gets a step of its own.
        let whiten = |builder: &mut StepBuilder<'_>| {
            let buffers = [packed, ("x", Bound::Read(&batch.x)), ("y", Bound::Write(y))];
            builder.step("mixture_whiten", &full, rows(k * n_blocks), &shape, &buffers)
        };
        let mut buffers = vec![
            packed,
            ("y", Bound::Read(y)),
            ("log_det", Bound::Read(&batch.log_det)),
            ("log_q", Bound::Write(&batch.log_q)),
            ("w_rho", Bound::Write(w_rho)),
        ];
        let plain = constants.clone().with("gradient", false);
        let log_prob =
            vec![whiten(builder)?, builder.step("mixture_log_prob", &plain, rows(1), &shape[..5], &buffers)?];
        buffers.extend([
            ("weight", Bound::Read(&batch.weight)),
            ("log_inv_proposal", Bound::Read(&batch.log_inv_proposal)),
            ("w_eff", Bound::Write(&batch.w_eff)),
        ]);
        let with_gradient = constants.with("gradient", true);
        let mut gradient = vec![
            whiten(builder)?,
            builder.step("mixture_log_prob", &with_gradient, rows(1), &shape[..5], &buffers)?,
        ];
        let buffers =
            [packed, ("y", Bound::Read(y)), ("w_rho", Bound::Read(w_rho)), ("g", Bound::Write(&batch.g))];
        gradient.push(builder.step("mixture_grad", &full, rows(self.dim as u32), &shape, &buffers)?);
        if mixture.spec.trainable {
            let n = mixture.n_statistics() as u32;
            let shape = [
                shape[0],
                shape[1],
                shape[2],
                ("n_statistics", n.into()),
                ("stride", (self.n_grads() as u32).into()),
            ];
            let buffers = [
                ("y", Bound::Read(y)),
                ("w_rho", Bound::Read(w_rho)),
                ("partial", Bound::Write(&batch.partial)),
            ];
            let grid = Grid::Chunks { groups: (k * n).div_ceil(self.workgroup) };
            gradient.push(builder.step("mixture_statistics", &full, grid, &shape, &buffers)?);
            gradient.push(reduce(builder, self.n_grads(), place)?);
        }
        Ok(BasePass { log_prob, gradient })
    }
}

impl MixturePlan {
    /// Floats of the inverse Cholesky factor of one component, in blocks of four rows.
    fn n_inverse(&self) -> usize {
        let blocks = self.dim.div_ceil(4);
        match self.spec.covariance {
            Covariance::Diagonal => 4 * blocks,
            Covariance::Full => (0..blocks).map(|b| 4 * (4 * b + 4)).sum(),
        }
    }

    /// Floats per component.
    fn stride(&self) -> usize {
        4 + round_up(self.dim, 4) + self.n_inverse()
    }

    /// Sums per component: 1, y, and y^2 or the lower triangle of y y^T.
    fn n_statistics(&self) -> usize {
        1 + self.dim + self.spec.n_scales(self.dim)
    }

    fn spec_of(&self, flow: usize) -> MixtureSpec {
        MixtureSpec { n_components: self.n_components[flow], ..self.spec.clone() }
    }

    fn model(&self, flow: usize, params: &[f32]) -> MixtureBase<f64> {
        let params: Vec<f64> = params.iter().map(|&p| f64::from(p)).collect();
        MixtureBase::new(&self.spec_of(flow), self.dim, &params)
    }

    fn pack(&self, flow: usize, params: &[f32], region: &mut [f32]) {
        let model = self.model(flow, params);
        let (d, stride) = (self.dim, self.stride());
        region.fill(0.0);
        for (k, out) in region.chunks_exact_mut(stride).enumerate() {
            if k >= self.n_components[flow] {
                out[0] = ABSENT;
                continue;
            }
            out[0] = model.log_norm[k] as f32;
            let (means, inverse) = out[4..].split_at_mut(round_up(d, 4));
            for j in 0..d {
                means[j] = model.means[k * d + j] as f32;
            }
            for j in 0..d {
                for m in 0..=j {
                    let value = model.inverse_cholesky[(k * d + j) * d + m] as f32;
                    match self.spec.covariance {
                        Covariance::Diagonal if m == j => inverse[j] = value,
                        Covariance::Diagonal => {}
                        Covariance::Full => {
                            let b = j / 4;
                            inverse[4 * (2 * b * (b + 1) + m) + j % 4] = value;
                        }
                    }
                }
            }
        }
    }

    fn unpack_grad(&self, flow: usize, params: &[f32], region: &[f32], grad: &mut [f32]) {
        let (d, n_scales) = (self.dim, self.spec.n_scales(self.dim));
        let spec = self.spec_of(flow);
        let mut statistics = MixtureStatistics::<f64>::zeros(&spec, d);
        for (k, sums) in region.chunks_exact(self.n_statistics()).take(spec.n_components).enumerate() {
            let sums: Vec<f64> = sums.iter().map(|&v| f64::from(v)).collect();
            statistics.n[k] = sums[0];
            statistics.first[k * d..][..d].copy_from_slice(&sums[1..1 + d]);
            statistics.second[k * n_scales..][..n_scales].copy_from_slice(&sums[1 + d..]);
        }
        for (g, value) in grad.iter_mut().zip(self.model(flow, params).gradient(&statistics)) {
            *g = value as f32;
        }
    }
}

/// The recorded steps of the base.
#[derive(Debug)]
pub(crate) struct BasePass {
    log_prob: Vec<Step>,
    gradient: Vec<Step>,
}

impl BasePass {
    /// log_q from x = z and log_det.
    pub fn record_log_prob(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.log_prob, pass, dims);
    }

    /// log_q, w_eff and g from x = z, log_det and the weights; adds to the base's gradient region.
    pub fn record_gradient(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.gradient, pass, dims);
    }
}

/// The recorded steps that keep a trainable mixture's parameters on the device.
#[derive(Debug, Default)]
pub(crate) struct BaseTraining {
    pack: Vec<Step>,
    gradient: Vec<Step>,
}

impl BaseTraining {
    /// The packed mixture from the flat parameters.
    pub fn record_pack(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.pack, pass, dims);
    }

    /// The mixture's part of the flat gradient from the base's gradient region.
    pub fn record_gradient(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.gradient, pass, dims);
    }
}
