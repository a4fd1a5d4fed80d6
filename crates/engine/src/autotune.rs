//! Times the kernel choices that may suit a device on the flow that is about to run, and notes the fastest beside the
//! self-test. Invariant: only speed decides, and a note counts only for the same device, driver, kernels and flow.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lwflow_model::{Flow, FlowSpec};

use crate::gpu::{Gpu, GpuFlow, Wait};
use crate::self_test::note;
use crate::{Engine, EngineError, KernelChoice, WeightedBatch};

/// Samples of the gradient that is timed.
const SAMPLES: usize = 2048;
/// Timed calls per candidate, after one that compiles; the least time counts, because others only add to it.
const CALLS: usize = 5;

/// The fastest choice for `spec`: from a note of an earlier run, or timed now.
pub(crate) fn choose(engine: &Engine, gpu: &Arc<Gpu>, spec: &FlowSpec) -> Result<KernelChoice, EngineError> {
    let table = engine.table_choice();
    let key = format!("{}{spec:?}\n", note::fingerprint(engine));
    let file = note_file(engine, &key);
    if let Some(found) = file.as_ref().and_then(|f| read_note(f, &key)) {
        return Ok(found);
    }
    let flow = Flow::<f32>::init(spec.clone(), 1)?;
    let wave = |n: usize| -> Vec<f32> { (0..n).map(|i| (0.37 * i as f32).sin()).collect() };
    let (theta, context) = (wave(SAMPLES * spec.dim), wave(SAMPLES * spec.context_dim));
    let weights = vec![1.0 / SAMPLES as f32; SAMPLES];
    let batch =
        WeightedBatch { theta: &theta, context: &context, weights: &weights, ..WeightedBatch::default() };
    let mut best: Option<(f64, KernelChoice)> = None;
    for choice in table.candidates() {
        let mut candidate = GpuFlow::new(gpu.clone(), &engine.settings, std::slice::from_ref(spec), choice)?;
        // Where no layer fits the fused path, that is the tiled candidate again.
        if candidate.choice() != choice {
            continue;
        }
        candidate.set_params(0, flow.params())?;
        let mut least = f64::INFINITY;
        for call in 0..=CALLS {
            let begin = Instant::now();
            pollster::block_on(candidate.run_gradient(0, &batch, Wait::Block))?;
            if call > 0 {
                least = least.min(begin.elapsed().as_secs_f64());
            }
        }
        tracing::debug!(%choice, seconds = least, "autotune");
        if best.is_none_or(|(seconds, _)| least < seconds) {
            best = Some((least, choice));
        }
    }
    let choice = best.map_or(table, |(_, choice)| choice);
    if let Some(file) = &file
        && let Some(folder) = file.parent()
        && let Ok(text) = serde_json::to_string(&choice)
        && let Err(error) =
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, format!("{key}{text}")))
    {
        tracing::debug!(file = %file.display(), %error, "kernel choice not kept");
    }
    Ok(choice)
}

fn note_file(engine: &Engine, key: &str) -> Option<PathBuf> {
    let name = format!("kernels-{:016x}", lwflow_shaders::fnv1a(key.as_bytes()));
    note::cache_folder(engine).map(|folder| folder.join(name))
}

fn read_note(file: &PathBuf, key: &str) -> Option<KernelChoice> {
    let text = std::fs::read_to_string(file).ok()?;
    let choice: KernelChoice = serde_json::from_str(text.strip_prefix(key)?).ok()?;
    choice.check().is_ok().then_some(choice)
}
