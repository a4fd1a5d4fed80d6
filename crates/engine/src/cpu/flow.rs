//! A flow on the cores: cuts batches into chunks, lets the threads take them, and adds their partial gradients in order.
//! Invariant: how a batch is cut depends on its size and the specification alone.

use std::ops::Range;
use std::sync::Arc;

use lwflow_model::{FlowSpec, ParamLayout};

use super::Cpu;
use super::base::{BasePlan, BaseWork};
use super::coupling::{Direction, LayerPlan, Shared, Tape, sample};
use super::mlp::LinearPlan;
use super::outer::Reduce;
use super::panel::{Extent, PANEL, Row};
use super::simd::Lanes;
use crate::{EngineError, Gradient, WeightedBatch, rows};

/// Most samples between two additions of the partial gradients.
const PIECE: usize = 1 << 18;
/// Most chunks of a piece.
const MAX_CHUNKS: usize = 64;
/// Bytes that a block's tape should not exceed, so that it stays in the second-level cache.
const TAPE_BYTES: usize = 1 << 20;
/// Most panels of a block.
const MAX_PANELS: usize = 8;
/// Panels of a block whose tape leaves that cache in any case: enough that weights and their sums are not what is moved.
const LARGE_PANELS: usize = 4;
/// Bytes that a block's tape may take at all, as long as it has one panel.
const LARGE_BYTES: usize = 256 << 20;
/// Numbers that one thread moves in less time than it takes to wake a second one.
const SMALL: usize = 1 << 16;
/// Bytes that the partial gradients of all chunks may take.
const PARTIAL_BYTES: usize = 1 << 30;

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Forward,
    Inverse,
    LogProb,
    Gradient { control: bool },
}

/// Samples that one thread works on, and where their results go; what a call does not use is empty.
#[derive(Debug, Default)]
struct Chunk<'a> {
    x: &'a [f32],
    context: &'a [f32],
    weights: &'a [f32],
    log_inv_proposal: &'a [f32],
    /// z or theta, `[n, D]`.
    out: &'a mut [f32],
    /// log_det or log q, `[n]`.
    per_sample: &'a mut [f32],
    grad_context: &'a mut [f32],
    partial: &'a mut [Lanes],
}

/// What a thread works in.
#[derive(Debug)]
struct Workspace {
    shared: Shared,
    base: BaseWork,
    /// One tape per shape of layer, or one per layer for gradients.
    tapes: Vec<Tape>,
}

/// A flow on the cores of this machine.
#[derive(Debug)]
pub(crate) struct CpuFlow {
    cpu: Arc<Cpu>,
    spec: FlowSpec,
    layout: ParamLayout,
    layers: Vec<LayerPlan>,
    /// Index of the tape that a layer uses when nothing is kept.
    tape_of: Vec<usize>,
    base: BasePlan,
    /// Panels of a block.
    panels: usize,
    packed: Vec<f32>,
    has_params: bool,
    /// Vectors of a chunk's partial sums.
    n_sums: usize,
    partials: Vec<Vec<Lanes>>,
    sums: Vec<Lanes>,
    workspaces: Vec<Workspace>,
}

impl CpuFlow {
    /// Prepares a flow.
    ///
    /// # Errors
    /// [`EngineError::Model`] for an invalid specification.
    pub fn new(cpu: Arc<Cpu>, spec: &FlowSpec) -> Result<Self, EngineError> {
        spec.validate()?;
        let layout = ParamLayout::new(spec);
        let rows = cpu.level().rows();
        let (mut n_packed, mut n_sums) = (0, 0);
        let layers: Vec<LayerPlan> = spec
            .layers
            .iter()
            .zip(&layout.layers)
            .map(|(layer, linears)| LayerPlan::new(layer, linears, rows, &mut n_packed, &mut n_sums))
            .collect();
        let base = BasePlan::new(spec, &mut n_sums);
        let tape_of = layers
            .iter()
            .map(|l| layers.iter().position(|other| other.same_shape(l)).unwrap_or_default())
            .collect();
        let bytes = layers.iter().map(|l| l.tape(1).bytes()).sum::<usize>() + base.work_bytes();
        let panels = match TAPE_BYTES / bytes.max(1) {
            0..=2 => (LARGE_BYTES / bytes.max(1)).clamp(1, LARGE_PANELS),
            fitting => fitting.min(MAX_PANELS),
        };
        Ok(Self {
            cpu,
            spec: spec.clone(),
            layout,
            layers,
            tape_of,
            base,
            panels,
            packed: vec![0.0; n_packed],
            has_params: false,
            n_sums,
            partials: Vec::new(),
            sums: Vec::new(),
            workspaces: Vec::new(),
        })
    }

    /// The flow's specification.
    pub fn spec(&self) -> &FlowSpec {
        &self.spec
    }

    /// The layout of the flat parameter vector.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// Sets the parameters, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] if the vector does not fit; the old one stays.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        rows::check("params", params, 1, self.layout.len)?;
        let level_rows = self.cpu.level().rows();
        let mut rest = &mut self.packed[..];
        let mut tasks = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(layer.conditioner.packed_range().len());
            rest = after;
            tasks.push((layer, own));
        }
        let n_threads = if params.len() < SMALL { 1 } else { self.cpu.n_threads() };
        self.cpu.pool.run(tasks, &mut vec![(); n_threads], |(), (layer, packed)| {
            layer.conditioner.pack(level_rows, params, packed, layer.conditioner.packed_range().start);
        });
        self.base.set_params(&params[self.layout.base..]);
        self.has_params = true;
        Ok(())
    }

    /// log q(theta | context), `[n]`, of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for arrays that do not fit.
    pub fn log_prob(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n = self.check("log_prob", "theta", theta, context)?;
        let mut out = vec![0.0; n];
        self.map(Call::LogProb, theta, context, &mut [], &mut out);
        Ok(out)
    }

    /// Data to base: z `[n, D]` and the forward map's log_det `[n]` of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`CpuFlow::log_prob`].
    pub fn inverse(&mut self, theta: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let n = self.check("inverse", "theta", theta, context)?;
        let (mut out, mut log_det) = (vec![0.0; theta.len()], vec![0.0; n]);
        self.map(Call::Inverse, theta, context, &mut out, &mut log_det);
        Ok((out, log_det))
    }

    /// Base to data: theta `[n, D]` and log_det `[n]` of z `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`CpuFlow::log_prob`].
    pub fn forward(&mut self, z: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let n = self.check("forward", "z", z, context)?;
        let (mut out, mut log_det) = (vec![0.0; z.len()], vec![0.0; n]);
        self.map(Call::Forward, z, context, &mut out, &mut log_det);
        Ok((out, log_det))
    }

    /// Weighted loss `-sum_i w_i log q(theta_i | c_i)` and its gradients; with `log_inv_proposal` lv the gradients use the
    /// effective weights `w_i - exp(log q_i + lv_i)`.
    ///
    /// # Errors
    /// As [`CpuFlow::log_prob`]. A loss or gradient that is not finite is a result, not an error.
    pub fn gradient(&mut self, batch: &WeightedBatch<'_>) -> Result<Gradient, EngineError> {
        let &WeightedBatch { theta, context, weights, log_inv_proposal } = batch;
        let n = self.check("gradient", "theta", theta, context)?;
        rows::check("weights", weights, n, 1)?;
        if let Some(lv) = log_inv_proposal {
            rows::check_log("log_inv_proposal", lv, n)?;
        }
        let (d, c) = (self.spec.dim, self.spec.context_dim);
        let mut out = Gradient {
            loss: 0.0,
            grad: vec![0.0; self.layout.len],
            grad_context: vec![0.0; n * c],
            log_prob: vec![0.0; n],
        };
        for first in (0..n).step_by(PIECE) {
            let (at, n) = (first, PIECE.min(n - first));
            self.add_piece(
                (&theta[at * d..][..n * d], &context[at * c..][..n * c]),
                &weights[at..][..n],
                log_inv_proposal.map(|lv| &lv[at..][..n]),
                &mut out.grad,
                &mut out.grad_context[at * c..][..n * c],
                &mut out.log_prob[at..][..n],
            );
        }
        out.loss = batch.loss(&out.log_prob);
        Ok(out)
    }

    /// Samples of a chunk of a piece of `n`: enough that a chunk's partial sums cost little against its products, and
    /// few enough that many cores find work.
    fn chunk_samples(&self, n: usize) -> usize {
        let bytes = self.n_sums * size_of::<Lanes>();
        let least = match bytes >> 20 {
            0 => 128,
            1..=3 => 256,
            _ => 512,
        };
        let most = (PARTIAL_BYTES / bytes.max(1)).clamp(1, MAX_CHUNKS);
        // Two as soon as each has two vectors of samples.
        let n_chunks = (n / least).max((n / 32).min(2)).min(16).max(n / 512).clamp(1, most);
        n.div_ceil(n_chunks).next_multiple_of(16)
    }

    /// Adds the gradients of one piece.
    fn add_piece(
        &mut self,
        (theta, context): (&[f32], &[f32]),
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
        grad: &mut [f32],
        grad_context: &mut [f32],
        log_prob: &mut [f32],
    ) {
        let (d, c, n) = (self.spec.dim, self.spec.context_dim, weights.len());
        let size = self.chunk_samples(n);
        let n_chunks = n.div_ceil(size);
        let n_sums = self.n_sums;
        if self.partials.len() < n_chunks {
            self.partials.resize_with(n_chunks, || vec![Lanes::ZERO; n_sums]);
        }
        let mut partials = std::mem::take(&mut self.partials);
        let mut grad_contexts = split(grad_context, size * c, n_chunks);
        let tasks = partials
            .iter_mut()
            .zip(log_prob.chunks_mut(size))
            .enumerate()
            .map(|(i, (partial, per_sample))| {
                let n = per_sample.len();
                let at = i * size;
                Chunk {
                    x: &theta[at * d..][..n * d],
                    context: &context[at * c..][..n * c],
                    weights: &weights[at..][..n],
                    log_inv_proposal: log_inv_proposal.map_or(&[], |lv| &lv[at..][..n]),
                    per_sample,
                    grad_context: grad_contexts.next().unwrap_or_default(),
                    partial,
                    ..Chunk::default()
                }
            })
            .collect();
        self.run(Call::Gradient { control: log_inv_proposal.is_some() }, tasks);
        self.partials = partials;
        self.add_sums(n_chunks, grad);
    }

    /// Adds the chunks' partial sums to the flat gradient.
    fn add_sums(&mut self, n_chunks: usize, grad: &mut [f32]) {
        self.sums.resize(self.n_sums, Lanes::ZERO);
        let level = self.cpu.level();
        // One task per linear map and one for the base, each with its part of the sums and of the gradient.
        let (mut tasks, mut sums, mut grad) = (Vec::new(), &mut self.sums[..], grad);
        for linear in self.layers.iter().flat_map(|l| &l.conditioner.linears) {
            let (own, rest) = std::mem::take(&mut sums).split_at_mut(linear.sums.len());
            sums = rest;
            let (own_grad, rest) =
                std::mem::take(&mut grad).split_at_mut((linear.block.n_in + 1) * linear.block.n_out);
            grad = rest;
            tasks.push((Some(linear), linear.sums.clone(), own, own_grad));
        }
        tasks.push((None, self.base.sums(), sums, grad));
        let (partials, base) = (&self.partials[..n_chunks], &self.base);
        let run = |_: &mut (), task: (Option<&LinearPlan>, Range<usize>, &mut [Lanes], &mut [f32])| {
            let (linear, range, sums, grad) = task;
            let partials: Vec<&[Lanes]> = partials.iter().map(|p| &p[range.clone()]).collect();
            level.run(Reduce { partials: &partials, out: sums });
            match linear {
                Some(linear) => {
                    let (n_in, n_weights) = (linear.block.n_in, linear.block.n_in * linear.block.n_out);
                    linear.outer.unpack(sums, |o, i, value| {
                        grad[i.map_or(n_weights + o, |i| o * n_in + i)] += value;
                    });
                }
                None => base.add_gradient(sums, grad),
            }
        };
        let threads = if self.layout.len * n_chunks < SMALL { 1 } else { self.cpu.n_threads() };
        self.cpu.pool.run(tasks, &mut vec![(); threads], run);
    }

    fn check(
        &self,
        call: &'static str,
        what: &'static str,
        x: &[f32],
        context: &[f32],
    ) -> Result<usize, EngineError> {
        if !self.has_params {
            return Err(EngineError::NoParams { call });
        }
        let n = rows::count(what, x, self.spec.dim)?;
        rows::check(what, x, n, self.spec.dim)?;
        rows::check("context", context, n, self.spec.context_dim)?;
        Ok(n)
    }

    /// Cuts a batch into blocks for a call that adds nothing over samples.
    fn map(&mut self, call: Call, x: &[f32], context: &[f32], out: &mut [f32], per_sample: &mut [f32]) {
        let (d, c, n) = (self.spec.dim, self.spec.context_dim, per_sample.len());
        let size = (n.div_ceil(4 * self.cpu.n_threads())).next_multiple_of(PANEL).min(self.panels * PANEL);
        let mut outs = split(out, size * d, n.div_ceil(size.max(1)));
        let tasks = per_sample
            .chunks_mut(size.max(1))
            .enumerate()
            .map(|(i, per_sample)| {
                let (at, n) = (i * size, per_sample.len());
                Chunk {
                    x: &x[at * d..][..n * d],
                    context: &context[at * c..][..n * c],
                    out: outs.next().unwrap_or_default(),
                    per_sample,
                    ..Chunk::default()
                }
            })
            .collect();
        self.run(call, tasks);
    }

    /// Lets the threads do the tasks.
    fn run(&mut self, call: Call, tasks: Vec<Chunk<'_>>) {
        let mut workspaces = std::mem::take(&mut self.workspaces);
        let n_threads = self.cpu.n_threads().min(tasks.len().max(1));
        while workspaces.len() < n_threads {
            workspaces.push(self.workspace());
        }
        let n_tapes = match call {
            Call::Gradient { .. } => self.layers.len(),
            _ => self.tape_of.iter().max().map_or(0, |last| last + 1),
        };
        for workspace in &mut workspaces {
            while workspace.tapes.len() < n_tapes {
                workspace.tapes.push(self.layers[workspace.tapes.len()].tape(self.panels));
            }
        }
        self.cpu.pool.run(tasks, &mut workspaces[..n_threads], |workspace, chunk| {
            self.run_chunk(call, chunk, workspace);
        });
        self.workspaces = workspaces;
    }

    fn workspace(&self) -> Workspace {
        let mut shared = Shared::new(self.panels, self.spec.dim, self.spec.context_dim, &self.layers);
        let strips = self.base.scratch(self.panels).max(shared.scratch.strips.len());
        shared.scratch.strips.resize(strips, Lanes::ZERO);
        Workspace { shared, base: self.base.work(self.panels), tapes: Vec::new() }
    }

    /// Runs a chunk block by block.
    fn run_chunk(&self, call: Call, mut chunk: Chunk<'_>, work: &mut Workspace) {
        let (d, c, n) = (self.spec.dim, self.spec.context_dim, chunk.per_sample.len());
        let n_blocks = n.div_ceil(self.panels * PANEL);
        let size = n.div_ceil(n_blocks.max(1)).next_multiple_of(16);
        for first in (0..n).step_by(size.max(1)) {
            let extent = Extent { samples: size.min(n - first) };
            let n = extent.samples;
            let Workspace { shared, base, tapes } = &mut *work;
            shared.x.read(extent, 0, d, &chunk.x[first * d..][..n * d]);
            shared.context.read(extent, 0, c, &chunk.context[first * c..][..n * c]);
            for p in 0..extent.panels() {
                shared.sample.panel_mut(p)[sample::LOG_DET] = Row::of(0.0);
            }
            self.pass(call, shared, tapes, extent);
            match call {
                Call::Forward | Call::Inverse => {
                    shared.x.write(extent, 0, d, &mut chunk.out[first * d..]);
                    shared.sample.write(extent, sample::LOG_DET, 1, &mut chunk.per_sample[first..]);
                    continue;
                }
                Call::LogProb => self.base.log_prob(self.cpu.level(), shared, base, extent),
                Call::Gradient { control } => {
                    shared.sample.read_padded(extent, sample::WEIGHT, &chunk.weights[first..][..n], 0.0);
                    if control {
                        let lv = &chunk.log_inv_proposal[first..][..n];
                        shared.sample.read_padded(extent, sample::LOG_INV_PROPOSAL, lv, f32::NEG_INFINITY);
                    }
                    self.backward(control, work, extent, first == 0, &mut chunk);
                    work.shared.g_context.write(extent, 0, c, &mut chunk.grad_context[first * c..]);
                }
            }
            work.shared.sample.write(extent, sample::LOG_PROB, 1, &mut chunk.per_sample[first..]);
        }
    }

    /// All layers in the call's direction.
    fn pass(&self, call: Call, shared: &mut Shared, tapes: &mut [Tape], extent: Extent) {
        let keep = matches!(call, Call::Gradient { .. });
        let direction = if call == Call::Forward { Direction::Forward } else { Direction::Inverse };
        let mut one = |l: usize| {
            let tape = &mut tapes[if keep { l } else { self.tape_of[l] }];
            self.layers[l].pass(self.cpu.level(), direction, &self.packed, shared, tape, extent, keep);
        };
        match direction {
            Direction::Forward => (0..self.layers.len()).for_each(&mut one),
            Direction::Inverse => (0..self.layers.len()).rev().for_each(&mut one),
        }
    }

    /// The base and all layers' gradients.
    fn backward(
        &self,
        control: bool,
        work: &mut Workspace,
        extent: Extent,
        set: bool,
        chunk: &mut Chunk<'_>,
    ) {
        let level = self.cpu.level();
        let Workspace { shared, base, tapes } = work;
        for p in 0..extent.panels() {
            shared.g_context.panel_mut(p).fill(Row::of(0.0));
        }
        self.base.gradient(level, shared, base, extent, control, (&mut *chunk.partial, set));
        for (l, layer) in self.layers.iter().enumerate() {
            // The gradient at theta itself is nobody's.
            let wanted = l + 1 < self.layers.len() || self.spec.context_dim > 0;
            layer.backward(level, &self.packed, shared, &mut tapes[l], extent, chunk.partial, (set, wanted));
        }
    }
}

impl Cpu {
    /// Works on several flows, results in their order: a flow per thread while there are enough of them, which then waits for
    /// no other, and the rest one after another on all threads.
    pub fn each<T: Send, R: Send>(&self, flows: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let n_threads = self.n_threads();
        let apart = flows.len() / n_threads * n_threads;
        let mut results: Vec<Option<R>> = Vec::new();
        results.resize_with(apart, || None);
        let mut flows = flows.into_iter();
        let tasks = flows.by_ref().take(apart).zip(&mut results).collect();
        // A call of the pool within a task runs on the thread that makes it.
        self.pool.run(tasks, &mut vec![(); n_threads], |(), (flow, result): (T, &mut Option<R>)| {
            *result = Some(work(flow));
        });
        results.into_iter().flatten().chain(flows.map(&work)).collect()
    }
}

/// `values` in `n` pieces of `size`, which may be zero.
fn split(values: &mut [f32], size: usize, n: usize) -> impl Iterator<Item = &mut [f32]> {
    let mut rest = values;
    (0..n).map(move |_| {
        let all = std::mem::take(&mut rest);
        let (piece, after) = all.split_at_mut(size.min(all.len()));
        rest = after;
        piece
    })
}
