//! A context network on the cores: features of rows of context, and the way back from their gradients. Elements of sets go
//! through phi side by side, whichever rows they are of. Invariant: how rows are cut depends on their number and the
//! specification alone, and a sum over elements or rows has one order, so that threads change no bit.

use std::sync::Arc;

use lwflow_model::{ContextNetworkSpec, FlowSpec, ParamLayout, SetSpec};

use super::Cpu;
use super::mlp::{LinearPlan, MlpPlan, MlpScratch, MlpTape};
use super::outer::Reduce;
use super::panel::{Extent, PANEL, Panels};
use super::simd::Lanes;

/// Most panels of elements that pass phi together, so that what is kept of them stays in the second-level cache.
const MAX_PANELS: usize = 8;
/// Most chunks of a call, each of which has partial sums of its own.
const MAX_CHUNKS: usize = 16;
/// Fewest rows of a chunk.
const MIN_ROWS: usize = 16;
/// Bytes that the partial sums of all chunks may take.
const PARTIAL_BYTES: usize = 1 << 30;
/// Bytes that may be kept of the rows whose gradients are wanted.
const KEPT_BYTES: usize = 256 << 20;

/// What is kept of a block of rows.
#[derive(Debug)]
struct Block {
    /// Elements of each row.
    counts: Vec<usize>,
    /// One for every group of elements.
    phi: Vec<MlpTape>,
    rho: MlpTape,
}

/// What a thread works in.
#[derive(Debug)]
struct Workspace {
    /// A block that nobody goes back through.
    block: Block,
    output: Panels,
    scratch: MlpScratch,
    /// Rows of samples on their way into panels and out of them.
    elements: Vec<f32>,
    rows: Vec<f32>,
}

/// A context network on the cores.
#[derive(Debug)]
pub(crate) struct CpuNetwork {
    cpu: Arc<Cpu>,
    spec: ContextNetworkSpec,
    context_dim: usize,
    kept_rows: usize,
    phi: MlpPlan,
    rho: MlpPlan,
    packed: Vec<f32>,
    n_sums: usize,
    partials: Vec<Vec<Lanes>>,
    /// Of the last call that keeps.
    blocks: Vec<Block>,
    workspaces: Vec<Workspace>,
}

/// Rows that one thread works on, and where their results go.
struct Chunk<'a> {
    /// `[n, C]`
    context: &'a [f32],
    /// Features, or their gradient, `[n, F]`.
    features: &'a mut [f32],
    /// Gradient of the context, `[n, C]`; empty if it is not wanted.
    grad_context: &'a mut [f32],
    /// Empty where nothing is kept.
    blocks: &'a mut [Block],
    partial: &'a mut [Lanes],
}

impl CpuNetwork {
    /// Prepares the network of a (valid) specification that has one.
    pub fn new(cpu: Arc<Cpu>, spec: &FlowSpec, network: &ContextNetworkSpec) -> Self {
        let layout = ParamLayout::new(spec);
        let rows = cpu.level().rows();
        let (mut n_packed, mut n_sums) = (0, 0);
        let mut plan =
            |linears| MlpPlan::new(network.activation(), linears, rows, &mut n_packed, &mut n_sums);
        let (phi, rho) = (plan(&layout.phi), plan(&layout.rho));
        let per_panel = match network {
            ContextNetworkSpec::Mlp(_) => 0,
            ContextNetworkSpec::Set(set) => phi.tape(1).bytes() * set.most(spec.context_dim),
        };
        let kept_rows = (PANEL * KEPT_BYTES / (per_panel + rho.tape(1).bytes())).max(1);
        Self {
            cpu,
            spec: network.clone(),
            kept_rows,
            context_dim: spec.context_dim,
            phi,
            rho,
            packed: vec![0.0; n_packed],
            n_sums,
            partials: Vec::new(),
            blocks: Vec::new(),
            workspaces: Vec::new(),
        }
    }

    /// Sets the parameters: the whole flat vector, which was checked.
    pub fn set_params(&mut self, params: &[f32]) {
        for plan in [&self.phi, &self.rho] {
            plan.pack(self.cpu.level().rows(), params, &mut self.packed, 0);
        }
    }

    /// Most rows whose blocks may be kept at once.
    pub fn kept_rows(&self) -> usize {
        self.kept_rows
    }

    /// Features `[n, F]` of rows `[n, C]`, which were checked; `keep` what [`CpuNetwork::backward`] needs.
    pub fn features(&mut self, context: &[f32], keep: bool) -> Vec<f32> {
        let n = context.len() / self.context_dim;
        let size = if keep { self.chunk_rows(n) } else { PANEL };
        let mut features = vec![0.0; n * self.spec.n_features()];
        let mut blocks = std::mem::take(&mut self.blocks);
        if keep {
            let n_blocks = (0..n).step_by(size).map(|first| size.min(n - first).div_ceil(PANEL)).sum();
            while blocks.len() < n_blocks {
                blocks.push(self.block());
            }
        }
        let kept = if keep { &mut blocks[..] } else { &mut [] };
        let tasks = self.chunks(size, context, &mut features, &mut [], kept, &mut []);
        self.run(tasks, Self::forward);
        self.blocks = blocks;
        features
    }

    /// From the gradient of the features of the rows of the last [`CpuNetwork::features`] that kept, `[n, F]`: adds the
    /// gradient of the parameters to `grad`, the whole flat vector, and gives that of the rows, `[n, C]`.
    pub fn backward(&mut self, context: &[f32], mut grad_features: Vec<f32>, grad: &mut [f32]) -> Vec<f32> {
        let n = context.len() / self.context_dim;
        let size = self.chunk_rows(n);
        let n_chunks = n.div_ceil(size);
        let mut grad_context = vec![0.0; context.len()];
        let mut partials = std::mem::take(&mut self.partials);
        partials.resize_with(partials.len().max(n_chunks), Vec::new);
        for partial in &mut partials[..n_chunks] {
            partial.clear();
            partial.resize(self.n_sums, Lanes::ZERO);
        }
        let mut blocks = std::mem::take(&mut self.blocks);
        let of_chunks = &mut partials[..n_chunks];
        let tasks = self.chunks(size, context, &mut grad_features, &mut grad_context, &mut blocks, of_chunks);
        self.run(tasks, Self::backward_chunk);
        self.blocks = blocks;
        let mut sums = Vec::new();
        for LinearPlan { block, outer, sums: range, .. } in self.phi.linears.iter().chain(&self.rho.linears) {
            sums.resize(range.len(), Lanes::ZERO);
            let of_linear: Vec<&[Lanes]> = partials[..n_chunks].iter().map(|p| &p[range.clone()]).collect();
            self.cpu.level().run(Reduce { partials: &of_linear, out: &mut sums });
            outer.unpack(&sums, |o, i, value| {
                grad[i.map_or(block.bias + o, |i| block.weight + o * block.n_in + i)] += value;
            });
        }
        self.partials = partials;
        grad_context
    }

    /// Rows of a chunk of `n`.
    fn chunk_rows(&self, n: usize) -> usize {
        let most = (PARTIAL_BYTES / (self.n_sums * size_of::<Lanes>()).max(1)).clamp(1, MAX_CHUNKS);
        n.div_ceil(most).max(MIN_ROWS).next_multiple_of(MIN_ROWS)
    }

    fn chunks<'a>(
        &self,
        size: usize,
        context: &'a [f32],
        features: &'a mut [f32],
        mut grad_context: &'a mut [f32],
        mut blocks: &'a mut [Block],
        partials: &'a mut [Vec<Lanes>],
    ) -> Vec<Chunk<'a>> {
        let (c, f) = (self.context_dim, self.spec.n_features());
        let mut partials = partials.iter_mut();
        let chunks = context.chunks(size * c).zip(features.chunks_mut(size * f));
        let chunk = |(context, features): (&'a [f32], &'a mut [f32])| {
            let take = std::mem::take(&mut grad_context);
            let (own, rest) = take.split_at_mut(context.len().min(take.len()));
            grad_context = rest;
            let all = std::mem::take(&mut blocks);
            let (own_blocks, rest) = all.split_at_mut((context.len() / c).div_ceil(PANEL).min(all.len()));
            blocks = rest;
            let partial = partials.next().map_or(&mut [][..], |partial| &mut partial[..]);
            Chunk { context, features, grad_context: own, blocks: own_blocks, partial }
        };
        chunks.map(chunk).collect()
    }

    /// Lets the threads do the tasks.
    fn run(&mut self, tasks: Vec<Chunk<'_>>, run: fn(&Self, Chunk<'_>, &mut Workspace)) {
        let mut workspaces = std::mem::take(&mut self.workspaces);
        let n_threads = self.cpu.n_threads().min(tasks.len().max(1));
        while workspaces.len() < n_threads {
            workspaces.push(self.workspace());
        }
        self.cpu
            .pool
            .run(tasks, &mut workspaces[..n_threads], |workspace, chunk| run(self, chunk, workspace));
        self.workspaces = workspaces;
    }

    fn workspace(&self) -> Workspace {
        let width = self.spec.n_features().max(self.n_pooled());
        let panels = self.element_panels();
        Workspace {
            block: self.block(),
            output: Panels::new(panels, width.next_multiple_of(4)),
            scratch: MlpScratch::new(panels, [&self.phi, &self.rho].into_iter()),
            elements: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn block(&self) -> Block {
        Block { counts: Vec::new(), phi: Vec::new(), rho: self.rho.tape(1) }
    }

    fn n_pooled(&self) -> usize {
        match &self.spec {
            ContextNetworkSpec::Mlp(_) => 0,
            ContextNetworkSpec::Set(set) => set.n_pooled(),
        }
    }

    /// Panels of elements that pass phi together: no more than a panel of full rows has.
    fn element_panels(&self) -> usize {
        match &self.spec {
            ContextNetworkSpec::Mlp(_) => 1,
            ContextNetworkSpec::Set(set) => set.most(self.context_dim).min(MAX_PANELS),
        }
    }

    fn forward(&self, chunk: Chunk<'_>, work: &mut Workspace) {
        let (c, f) = (self.context_dim, self.spec.n_features());
        let level = self.cpu.level();
        let Workspace { block: own, output, elements, rows, .. } = work;
        let parts = chunk.context.chunks(PANEL * c).zip(chunk.features.chunks_mut(PANEL * f));
        for (k, (context, features)) in parts.enumerate() {
            let block = chunk.blocks.get_mut(k).unwrap_or(own);
            let extent = Extent { samples: context.len() / c };
            match &self.spec {
                ContextNetworkSpec::Mlp(_) => block.rho.input.read(extent, 0, c, context),
                ContextNetworkSpec::Set(set) => {
                    self.pool(set, context, block, output, elements, rows);
                    block.rho.input.read(extent, 0, self.rho.n_in(), rows);
                }
            }
            self.rho.run(level, &self.packed, &mut block.rho, output, extent);
            output.write(extent, 0, f, features);
        }
    }

    /// The input of rho into `rows`: for every row the mean of phi over its elements, and ln(1 + n).
    fn pool(
        &self,
        set: &SetSpec,
        context: &[f32],
        block: &mut Block,
        output: &mut Panels,
        elements: &mut Vec<f32>,
        rows: &mut Vec<f32>,
    ) {
        let width = set.n_pooled();
        let Block { counts, phi, .. } = block;
        elements.clear();
        counts.clear();
        for row in context.chunks_exact(self.context_dim) {
            let present = set.elements(row).unwrap_or_default();
            counts.push(present.len() / set.element);
            elements.extend_from_slice(present);
        }
        let mut sums = vec![0.0_f64; counts.len() * width];
        let mut row_of = rows_of(counts);
        let size = self.element_panels() * PANEL;
        for (k, group) in elements.chunks(size * set.element).enumerate() {
            let extent = Extent { samples: group.len() / set.element };
            if phi.len() == k {
                phi.push(self.phi.tape(self.element_panels()));
            }
            phi[k].input.read(extent, 0, set.element, group);
            self.phi.run(self.cpu.level(), &self.packed, &mut phi[k], output, extent);
            rows.resize(extent.samples * width, 0.0);
            output.write(extent, 0, width, rows);
            for (values, row) in rows.chunks_exact(width).zip(&mut row_of) {
                for (sum, &value) in sums[row * width..][..width].iter_mut().zip(values) {
                    *sum += f64::from(value);
                }
            }
        }
        rows.clear();
        for (&n, sums) in counts.iter().zip(sums.chunks_exact(width)) {
            rows.extend(sums.iter().map(|sum| (sum / n.max(1) as f64) as f32));
            rows.push((n as f64).ln_1p() as f32);
        }
    }

    fn backward_chunk(&self, chunk: Chunk<'_>, work: &mut Workspace) {
        let (c, f) = (self.context_dim, self.spec.n_features());
        let level = self.cpu.level();
        let Workspace { output, scratch, elements, rows, .. } = work;
        let parts = chunk.features.chunks(PANEL * f).zip(chunk.grad_context.chunks_mut(PANEL * c));
        for ((grad_features, grad_context), block) in parts.zip(chunk.blocks) {
            let extent = Extent { samples: grad_features.len() / f };
            output.read(extent, 0, f, grad_features);
            output.clear_beyond(extent, f);
            let sums = &mut *chunk.partial;
            let tape = &mut block.rho;
            let below =
                self.rho.backward(level, &self.packed, tape, output, scratch, extent, sums, (false, true));
            let Some(below) = below else { continue };
            let ContextNetworkSpec::Set(set) = &self.spec else {
                below.write(extent, 0, c, grad_context);
                continue;
            };
            let width = set.n_pooled();
            rows.resize(extent.samples * width, 0.0);
            below.write(extent, 0, width, rows);
            for (&n, row) in block.counts.iter().zip(rows.chunks_exact_mut(width)) {
                row.iter_mut().for_each(|g| *g /= n.max(1) as f32);
            }
            self.spread(set, block, rows, output, scratch, elements, chunk.partial, grad_context);
        }
    }

    /// From the gradient of phi's value at every element of a row, `[n, P]`: back through phi.
    fn spread(
        &self,
        set: &SetSpec,
        block: &mut Block,
        of_rows: &[f32],
        output: &mut Panels,
        scratch: &mut MlpScratch,
        elements: &mut Vec<f32>,
        sums: &mut [Lanes],
        grad_context: &mut [f32],
    ) {
        let (width, size) = (set.n_pooled(), self.element_panels() * PANEL);
        let total: usize = block.counts.iter().sum();
        let mut row_of = rows_of(&block.counts);
        // Places of the elements' gradients in the rows, in the same order.
        let places = block.counts.iter().enumerate().flat_map(|(row, &n)| {
            (0..n).map(move |k| row * self.context_dim + set.first() + k * set.element)
        });
        let mut places = places.collect::<Vec<usize>>().into_iter();
        for (tape, first) in block.phi.iter_mut().zip((0..total).step_by(size)) {
            let extent = Extent { samples: size.min(total - first) };
            elements.clear();
            for row in row_of.by_ref().take(extent.samples) {
                elements.extend_from_slice(&of_rows[row * width..][..width]);
            }
            output.read(extent, 0, width, elements);
            output.clear_beyond(extent, width);
            let level = self.cpu.level();
            let below =
                self.phi.backward(level, &self.packed, tape, output, scratch, extent, sums, (false, true));
            let Some(below) = below else { continue };
            elements.resize(extent.samples * set.element, 0.0);
            below.write(extent, 0, set.element, elements);
            for (values, place) in elements.chunks_exact(set.element).zip(&mut places) {
                grad_context[place..][..set.element].copy_from_slice(values);
            }
        }
    }
}

/// The row that each element is of.
fn rows_of(counts: &[usize]) -> impl Iterator<Item = usize> {
    counts.iter().enumerate().flat_map(|(row, &n)| std::iter::repeat_n(row, n))
}
