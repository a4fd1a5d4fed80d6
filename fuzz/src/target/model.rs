//! Model files, and the flows in them. The first byte says whether the container is made here.

use std::path::Path;
use std::sync::OnceLock;

use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::model_file::parse_model;

/// The cores.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let settings = EngineSettings {
            device: DeviceChoice::Cpu,
            n_threads: Some(1),
            timeout_seconds: 0.02,
            ..EngineSettings::default()
        };
        Engine::new(&settings).unwrap()
    })
}

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 2 {
        0 => survive(bytes),
        _ => survive(&container(bytes)),
    }
}

/// A container whose header is the first line, with its length before it.
fn container(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (header, data) = bytes.split_at(end);
    let data = data.get(1..).unwrap_or_default();
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn survive(bytes: &[u8]) {
    let Ok(posterior) = parse_model(Path::new("model.safetensors"), bytes) else { return };
    // A parameter takes two bytes at least, so the file bounds the flow.
    assert!(posterior.flow.params().len() <= bytes.len() / 2);
    let context = vec![0.0; posterior.spec().context_dim];
    if posterior.dim() > 64 || posterior.flow.params().len() > 1 << 16 {
        return;
    }
    let Ok(mut executor) = engine().flow(posterior.spec()) else { return };
    let Ok(samples) = posterior.sample(&mut executor, 4, &context, 1) else { return };
    assert_eq!(samples.theta.len(), 4 * posterior.dim());
    let _ = posterior.log_prob(&mut executor, &samples.theta, &context.repeat(4));
}
