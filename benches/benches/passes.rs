//! Criterion benches of the passes and of the training step on both kernel paths, on the device that `LWFLOW_DEVICE`
//! names. `cargo bench -p lwflow-benches -- gradient` runs some of them.
#![allow(clippy::print_stdout, clippy::expect_used, missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lwflow_benches::{Base, Call, Shape, Workload, paths};
use lwflow_engine::{DeviceChoice, list_devices};
use lwflow_model::{Activation, Coupling};

fn passes(criterion: &mut Criterion) {
    if list_devices().is_empty() {
        println!("SKIP passes: no adapter");
        return;
    }
    let shape = |dim, hidden, components, batch| Shape {
        dim,
        context_dim: 0,
        n_layers: 8,
        hidden,
        activation: Activation::Silu,
        coupling: Coupling::Affine,
        base: Base::Mixture(components),
        batch,
    };
    for shape in [shape(2, 32, 4, 512), shape(8, 64, 3, 1024)] {
        let work = Workload::new(&shape);
        let mut group = criterion.benchmark_group(format!("{shape} batch {}", shape.batch));
        group.sample_size(10).throughput(Throughput::Elements(shape.batch as u64));
        for mut path in paths(&DeviceChoice::Auto, &shape).expect("the device takes the flow") {
            for call in Call::ALL {
                path.call(call, &work).expect("the device makes the call");
                group.bench_function(BenchmarkId::new(call.name(), path.name), |b| {
                    b.iter(|| path.call(call, &work).expect("the device makes the call"));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
