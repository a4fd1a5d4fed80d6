//! Flows that share their dispatches against the same flows alone, to the bit: every set of kernels, bases with different
//! numbers of components, batches that do not fit at once, training steps that one of the flows refuses.

#![allow(clippy::unwrap_used, clippy::panic)]

use lwflow_engine::{
    DeviceChoice, Engine, EngineError, EngineSettings, FlowGroup, OptimiserSettings, OptimiserState,
    TrainSteps, WeightedBatch,
};
use lwflow_model::{BaseSpec, Coupling, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec, ParamLayout};

fn wave(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| (0.77 * i as f32 + phase).sin()).collect()
}

fn mixture(k: usize, covariance: Covariance) -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec { n_components: k, covariance, ..MixtureSpec::default() })
}

fn spec(base: BaseSpec, hidden: &[usize], coupling: Coupling, context_dim: usize) -> FlowSpec {
    let hidden = hidden.to_vec();
    let settings = FlowSettings { n_layers: 2, hidden, coupling, ..FlowSettings::default() };
    FlowSpec::build(3, context_dim, &settings, base, 3).unwrap()
}

fn params(spec: &FlowSpec, flow: usize) -> Vec<f32> {
    let mut params = Flow::<f32>::init(spec.clone(), flow as u64).unwrap().params().to_vec();
    params.iter_mut().zip(wave(1 << 14, flow as f32)).for_each(|(p, w)| *p += 0.2 * w);
    params
}

fn engines(settings: &EngineSettings) -> Vec<Engine> {
    let cpu = EngineSettings { device: DeviceChoice::Cpu, n_threads: Some(2), ..settings.clone() };
    let gpu = EngineSettings { device: DeviceChoice::Gpu, ..settings.clone() };
    lwflow_skip::adapter(Engine::new(&gpu)).into_iter().chain([Engine::new(&cpu).unwrap()]).collect()
}

/// Groups of every kind: kernels, bases, contexts.
fn groups() -> Vec<Vec<FlowSpec>> {
    let spline = Coupling::Spline { n_bins: 3, bound: 2.0 };
    let full = |k| mixture(k, Covariance::Full);
    vec![
        [2, 2, 2].map(|k| spec(full(k), &[9, 3], Coupling::Affine, 2)).to_vec(),
        [1, 4, 2, 3, 5].map(|k| spec(full(k), &[9, 3], Coupling::Affine, 0)).to_vec(),
        [3, 1, 2].map(|k| spec(mixture(k, Covariance::Diagonal), &[9], Coupling::Affine, 0)).to_vec(),
        [2, 1].map(|k| spec(full(k), &[5], spline, 1)).to_vec(),
        vec![spec(BaseSpec::Gaussian, &[8, 8], Coupling::Affine, 1); 3],
        vec![spec(full(2), &[8, 8], Coupling::Affine, 1)],
    ]
}

struct Batches(Vec<[Vec<f32>; 4]>);

impl Batches {
    fn new(specs: &[FlowSpec], sizes: &[usize]) -> Self {
        let batch = |(f, (spec, &n)): (usize, (&FlowSpec, &usize))| {
            let phase = 10.0 * f as f32;
            let weights = wave(n, phase).iter().map(|w| w.abs() / n as f32).collect();
            [
                wave(n * spec.dim, phase),
                wave(n * spec.context_dim, phase + 1.0),
                weights,
                wave(n, phase - 1.0),
            ]
        };
        Self(specs.iter().zip(sizes).enumerate().map(batch).collect())
    }

    fn batches(&self, control: bool) -> Vec<WeightedBatch<'_>> {
        let mut out = Vec::new();
        for [theta, context, weights, lv] in &self.0 {
            out.push(WeightedBatch { theta, context, weights, log_inv_proposal: control.then_some(lv) });
        }
        out
    }
}

fn group(engine: &Engine, specs: &[FlowSpec]) -> FlowGroup {
    let mut group = engine.flow_group(specs).unwrap();
    assert_eq!(group.n_flows(), specs.len());
    for (f, spec) in specs.iter().enumerate() {
        group.set_params(f, &params(spec, f)).unwrap();
    }
    group
}

#[test]
fn each_flow_of_a_group_computes_what_it_computes_alone() {
    // Room for all flows at once, for two of them, for none.
    for piece_samples in [None, Some(256), Some(64)] {
        for engine in engines(&EngineSettings { piece_samples, ..EngineSettings::default() }) {
            for specs in groups() {
                let mut group = group(&engine, &specs);
                let mut alone: Vec<_> = specs.iter().map(|spec| engine.flow(spec).unwrap()).collect();
                for (f, (flow, spec)) in alone.iter_mut().zip(&specs).enumerate() {
                    flow.set_params(&params(spec, f)).unwrap();
                    assert_eq!(group.spec(f), spec);
                }
                let sizes = [vec![100; specs.len()], vec![1; specs.len()], (70..70 + specs.len()).collect()];
                for (sizes, control) in sizes.iter().zip([false, true, true]) {
                    let batches = Batches::new(&specs, sizes);
                    let batches = batches.batches(control);
                    let got = group.gradients(&batches).unwrap();
                    for (f, (flow, b)) in alone.iter_mut().zip(&batches).enumerate() {
                        let one = flow.gradient(b.theta, b.context, b.weights, b.log_inv_proposal).unwrap();
                        assert!(got[f] == one, "{}: {sizes:?}: flow {f} of {specs:?}", engine.info());
                        let log_prob = flow.log_prob(b.theta, b.context).unwrap();
                        assert_eq!(group.log_prob(f, b.theta, b.context).unwrap(), log_prob);
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_taken_from_a_batch_before() {
    for engine in engines(&EngineSettings::default()) {
        let specs = &groups()[1];
        let mut group = group(&engine, specs);
        let small = Batches::new(specs, &[33; 5]);
        let large = Batches::new(specs, &[300; 5]);
        let first = group.gradients(&small.batches(true)).unwrap();
        group.gradients(&large.batches(false)).unwrap();
        assert!(group.gradients(&small.batches(true)).unwrap() == first);
    }
}

fn settings(spec: &FlowSpec) -> OptimiserSettings {
    let rate_scale = vec![1.0; ParamLayout::new(spec).len];
    OptimiserSettings { beta1: 0.9, beta2: 0.99, eps: 1e-8, clip_norm: Some(0.5), rate_scale }
}

/// Steps of each flow on points of its own.
const S: usize = 5;
const B: usize = 50;

fn index(f: usize) -> Vec<u32> {
    (0..S * B).map(|i| ((7 * i + 31 * f) % 90) as u32).collect()
}

/// Flow 1 has weights at its third step that no loss survives.
fn weights(f: usize) -> Vec<f32> {
    let bad = |i: usize| f == 1 && i / B == 2;
    (0..S * B).map(|i| if bad(i) { 3e38 } else { (1.0 + (i % 3) as f32) / B as f32 }).collect()
}

fn rate(f: usize, step: usize) -> f64 {
    0.01 / (1.0 + (f + step) as f64)
}

#[test]
fn a_group_trains_on_the_device_as_its_flows_do_alone() {
    for engine in engines(&EngineSettings::default()) {
        for specs in groups() {
            let (n_flows, first) = (specs.len(), &specs[0]);
            let points = (wave(90 * first.dim, 0.5), wave(90 * first.context_dim, 0.7));
            let states: Vec<OptimiserState> =
                specs.iter().map(|s| OptimiserState::new(ParamLayout::new(s).len)).collect();
            let settings: Vec<OptimiserSettings> = specs.iter().map(settings).collect();
            let mut group = group(&engine, &specs);
            if engine.info().adapter.is_none() {
                assert!(group.set_data(&points.0, &points.1).is_err(), "the cores are the host");
                continue;
            }
            group.set_data(&points.0, &points.1).unwrap();
            group.set_optimiser(&settings, &states).unwrap();
            // [S, F, B] and [S, F] of what each flow has as [S, B] and [S].
            let by_step = |s: usize| (0..n_flows).map(move |f| (f, s * B..(s + 1) * B));
            let all: Vec<u32> = (0..S).flat_map(by_step).flat_map(|(f, at)| index(f)[at].to_vec()).collect();
            let w: Vec<f32> = (0..S).flat_map(by_step).flat_map(|(f, at)| weights(f)[at].to_vec()).collect();
            let rates: Vec<f64> = (0..S).flat_map(|s| (0..n_flows).map(move |f| rate(f, s))).collect();
            let control = wave(S * B * n_flows, 0.1);
            let report = group
                .train_steps(&TrainSteps {
                    batch_size: B,
                    index: &all,
                    weights: &w,
                    log_inv_proposal: Some(&control),
                    learning_rate: &rates,
                })
                .unwrap();
            for (f, spec) in specs.iter().enumerate() {
                let mut alone = engine.flow(spec).unwrap();
                alone.set_params(&params(spec, f)).unwrap();
                alone.set_data(&points.0, &points.1).unwrap();
                alone.set_optimiser(&settings[f], &states[f]).unwrap();
                let own = |s: usize| (s * n_flows + f) * B..(s * n_flows + f + 1) * B;
                let control: Vec<f32> = (0..S).flat_map(|s| control[own(s)].to_vec()).collect();
                let one = alone
                    .train_steps(&TrainSteps {
                        batch_size: B,
                        index: &index(f),
                        weights: &weights(f),
                        log_inv_proposal: Some(&control),
                        learning_rate: &(0..S).map(|s| rate(f, s)).collect::<Vec<_>>(),
                    })
                    .unwrap();
                let name = format!("flow {f} of {n_flows}, {:?}", spec.base);
                let taken: Vec<bool> = (0..S).map(|s| report.taken[s * n_flows + f]).collect();
                assert_eq!(taken, (0..S).map(|s| f != 1 || s != 2).collect::<Vec<_>>(), "{name}");
                assert_eq!(taken, one.taken, "{name}");
                for s in (0..S).filter(|&s| taken[s]) {
                    let (a, b) = (report.loss[s * n_flows + f], one.loss[s]);
                    assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{name}: step {s}: {a} {b}");
                }
                assert!(group.params(f).unwrap() == alone.params().unwrap(), "{name}");
                assert!(group.optimiser_state(f).unwrap() == alone.optimiser_state().unwrap(), "{name}");
            }
            // What was trained is what is evaluated.
            let (theta, context) = (wave(10 * first.dim, 0.0), wave(10 * first.context_dim, 0.0));
            for f in 0..n_flows {
                let trained = group.log_prob(f, &theta, &context).unwrap();
                let moved = group.params(f).unwrap();
                group.set_params(f, &moved).unwrap();
                for (a, b) in trained.iter().zip(group.log_prob(f, &theta, &context).unwrap()) {
                    assert!((a - b).abs() < 1e-4, "{a} {b}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_group_is_refused() {
    for engine in engines(&EngineSettings { piece_samples: Some(64), ..EngineSettings::default() }) {
        let wide = spec(mixture(2, Covariance::Full), &[4, 4], Coupling::Affine, 0);
        let other = spec(mixture(2, Covariance::Full), &[4, 5], Coupling::Affine, 0);
        let error = engine.flow_group(&[wide.clone(), wide.clone(), other]).unwrap_err();
        assert!(error.to_string().contains("number 3"), "{error}");
        let gaussian = FlowSpec { base: BaseSpec::Gaussian, ..wide.clone() };
        assert!(engine.flow_group(&[wide.clone(), gaussian]).is_err());
        assert!(matches!(engine.flow_group(&[]), Err(EngineError::Length { .. })));
        let specs = [wide.clone(), wide];
        let mut group = group(&engine, &specs);
        let batches = Batches::new(&specs, &[4, 4]);
        assert!(matches!(group.gradients(&batches.batches(false)[..1]), Err(EngineError::Length { .. })));
        if engine.info().adapter.is_none() {
            continue;
        }
        group.set_data(&wave(30, 0.0), &[]).unwrap();
        let (mut all, states) = (
            specs.each_ref().map(settings),
            specs.each_ref().map(|s| OptimiserState::new(ParamLayout::new(s).len)),
        );
        assert!(matches!(group.set_optimiser(&all[..1], &states[..1]), Err(EngineError::Length { .. })));
        group.set_optimiser(&all, &states).unwrap();
        all[1].beta1 = 0.8;
        assert!(matches!(group.set_optimiser(&all, &states), Err(EngineError::Choice { .. })));
        // Room for the batch of one flow, not for two.
        assert_eq!(group.flows_at_once(64), 1);
        let steps = TrainSteps {
            batch_size: 10,
            index: &[0; 20],
            weights: &[0.1; 20],
            log_inv_proposal: None,
            learning_rate: &[0.1; 2],
        };
        assert!(matches!(group.train_steps(&steps), Err(EngineError::Limit { .. })));
    }
}
