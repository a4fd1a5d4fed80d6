//! The optimiser on the device against the host's Adam, which defines it: step by step with the same gradients, through
//! clipped, refused and projected steps, a whole run against a host-driven one, and replay and resume to the bit.

use lwflow_engine::{Engine, FlowExecutor, OptimiserSettings, OptimiserState, TrainSteps};
use lwflow_host::adam::{Adam, AdamSettings, AdamState, StepOutcome};
use lwflow_model::{BaseSpec, FlowSettings, FlowSpec, MixtureSpec};
use lwflow_tests::{Batch, engine, random_flow};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const EPS: f64 = 1e-8;
/// Relative agreement of one step.
const AGREEMENT: f64 = 1e-6;
const N: usize = 96;
const B: usize = 33;

fn settings(n_params: usize, clip_norm: f64) -> OptimiserSettings {
    let rate_scale = (0..n_params).map(|i| if i % 5 == 0 { 0.5 } else { 1.0 }).collect();
    OptimiserSettings { beta1: BETA1, beta2: BETA2, eps: EPS, clip_norm: Some(clip_norm), rate_scale }
}

fn spec(base: BaseSpec, context_dim: usize) -> FlowSpec {
    let settings = FlowSettings { n_layers: 2, hidden: vec![8, 8], ..FlowSettings::default() };
    FlowSpec::build(2, context_dim, &settings, base, 21).unwrap()
}

fn mixture() -> BaseSpec {
    let scale_floor = 2.0;
    BaseSpec::Mixture(MixtureSpec {
        n_components: 3,
        weight_floor: 0.01,
        scale_floor,
        ..MixtureSpec::default()
    })
}

fn index(step: usize) -> Vec<u32> {
    (0..B).map(|i| ((7 * i + 13 * step) % N) as u32).collect()
}

fn pick(rows: &[f32], width: usize, index: &[u32]) -> Vec<f32> {
    index.iter().flat_map(|&p| rows[p as usize * width..][..width].iter().copied()).collect()
}

/// An executor with the points of `data`, its parameters and optimiser set.
fn trainer(
    engine: &Engine,
    spec: &FlowSpec,
    data: &Batch,
    params: &[f32],
    clip: f64,
    state: &OptimiserState,
) -> FlowExecutor {
    let mut executor = engine.flow(spec).unwrap();
    executor.set_data(&data.theta, &data.context).unwrap();
    executor.set_params(params).unwrap();
    executor.set_optimiser(&settings(params.len(), clip), state).unwrap();
    executor
}

fn run(executor: &mut FlowExecutor, data: &Batch, steps: std::ops::Range<usize>, lr: f64) -> Vec<f32> {
    let index: Vec<u32> = steps.clone().flat_map(index).collect();
    let steps = TrainSteps {
        batch_size: B,
        index: &index,
        weights: &pick(&data.weights, 1, &index),
        log_inv_proposal: None,
        learning_rate: &vec![lr; steps.len()],
    };
    let report = executor.train_steps(&steps).unwrap();
    assert!(report.taken.iter().all(|taken| *taken), "{report:?}");
    report.loss
}

#[test]
fn the_device_steps_as_the_host_does() {
    let Some(engine) = engine() else { return };
    let spec = spec(BaseSpec::Gaussian, 3);
    let data = Batch::random(&spec, N, 5);
    let mut params = random_flow(&spec, 22).params().to_vec();
    let n = params.len();
    let mut state = AdamState::new(n);
    // A Gaussian base has no parameters, so the host's gradient is the device's to the bit.
    let mut gradients = engine.flow(&spec).unwrap();
    let clip = 0.05;
    let first = OptimiserState::new(n);
    let mut executor = trainer(&engine, &spec, &data, &params, clip, &first);
    let (mut clipped, mut plain, mut refused, mut worst) = (0, 0, 0, 0.0_f64);
    for step in 0..40 {
        let index = index(step);
        let mut weights = pick(&data.weights, 1, &index);
        // Some gradients are small, and one loss is not finite.
        weights.iter_mut().for_each(|w| *w *= if step % 3 == 0 { 0.02 } else { 1.0 });
        if step == 17 {
            weights.iter_mut().for_each(|w| *w = 3e38);
        }
        let (theta, context) = (pick(&data.theta, 2, &index), pick(&data.context, 3, &index));
        gradients.set_params(&params).unwrap();
        let gradient = gradients.gradient(&theta, &context, &weights, None).unwrap();
        let report = executor
            .train_steps(&TrainSteps {
                batch_size: B,
                index: &index,
                weights: &weights,
                log_inv_proposal: None,
                learning_rate: &[0.01],
            })
            .unwrap();
        let (new, moved) = (executor.params().unwrap(), executor.optimiser_state().unwrap());
        let adam = AdamSettings { beta1: BETA1, beta2: BETA2, eps: EPS, clip_norm: Some(clip) };
        let mut host = Adam::resume(state.clone(), adam).unwrap();
        let (old, scale) = (params.clone(), settings(n, clip).rate_scale);
        match host.step(&mut params, &gradient.grad, 0.01, Some(&scale)).unwrap() {
            StepOutcome::Taken { grad_norm, clipped: was_clipped } => {
                assert!(report.taken[0], "step {step}");
                let norm = f64::from(report.grad_norm[0]);
                assert!((norm / grad_norm - 1.0).abs() < AGREEMENT, "step {step}: {norm} {grad_norm}");
                let loss = f64::from(report.loss[0]);
                assert!((loss - gradient.loss).abs() < 1e-5 * (1.0 + gradient.loss.abs()), "step {step}");
                if was_clipped { clipped += 1 } else { plain += 1 }
            }
            StepOutcome::Skipped(_) => {
                assert_eq!((step, report.taken[0]), (17, false));
                refused += 1;
            }
        }
        assert_eq!(moved.step, host.state().step);
        for i in 0..n {
            let near = |got: f32, want: f32, size: f32| {
                let error = f64::from((got - want).abs()) / f64::from(size).max(1e-30);
                assert!(error < AGREEMENT, "step {step}, {i}: got {got}, host {want}, error {error:.1e}");
                error
            };
            worst = worst.max(near(new[i], params[i], params[i].abs().max(old[i].abs())));
            worst =
                worst.max(near(moved.m[i], host.state().m[i], host.state().m[i].abs().max(state.m[i].abs())));
            worst = worst.max(near(moved.v[i], host.state().v[i], host.state().v[i]));
        }
        // Both go on from the device's numbers: what is compared is one step.
        (params, state) = (new, AdamState { m: moved.m, v: moved.v, step: moved.step });
    }
    println!("{clipped} clipped, {plain} plain, {refused} refused, largest difference {worst:.1e}");
    assert!(clipped > 3 && plain > 3 && refused == 1);
}

#[test]
fn ten_steps_match_the_host_and_scales_stay_above_the_floor() {
    let Some(engine) = engine() else { return };
    for context_dim in [0, 3] {
        let spec = spec(mixture(), context_dim);
        let data = Batch::random(&spec, N, 6);
        let start = random_flow(&spec, 23);
        let (mut params, layout) = (start.params().to_vec(), start.layout().clone());
        spec.project(&layout, &mut params);
        let mut device = trainer(&engine, &spec, &data, &params, 5.0, &OptimiserState::new(params.len()));
        let device_loss = run(&mut device, &data, 0..10, 0.01);
        let adam = AdamSettings { beta1: BETA1, beta2: BETA2, eps: EPS, clip_norm: Some(5.0) };
        let mut adam = Adam::new(params.len(), adam).unwrap();
        let scale = settings(params.len(), 5.0).rate_scale;
        let mut executor = engine.flow(&spec).unwrap();
        let mut projected = 0;
        for (step, device_loss) in device_loss.iter().enumerate() {
            executor.set_params(&params).unwrap();
            let index = index(step);
            let (theta, context) = (pick(&data.theta, 2, &index), pick(&data.context, context_dim, &index));
            let weights = pick(&data.weights, 1, &index);
            let gradient = executor.gradient(&theta, &context, &weights, None).unwrap();
            adam.step(&mut params, &gradient.grad, 0.01, Some(&scale)).unwrap();
            let free = params.clone();
            spec.project(&layout, &mut params);
            projected += free.iter().zip(&params).filter(|(a, b)| a != b).count();
            let gap = (f64::from(*device_loss) - gradient.loss).abs();
            assert!(gap < 1e-5, "C {context_dim}, step {step}: device {device_loss}, host {}", gradient.loss);
        }
        assert!(projected > 0, "the floor was never met");
        let trained = device.params().unwrap();
        let mut again = trained.clone();
        spec.project(&layout, &mut again);
        assert_eq!(trained, again);
        let gap = trained.iter().zip(&params).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("C {context_dim}: {projected} projections, parameters differ by {gap:.1e} after ten steps");
        assert!(gap < 1e-4, "C {context_dim}: parameters differ by {gap:.1e} after ten steps of 0.01");
    }
}

#[test]
fn runs_replay_and_resume_to_the_bit() {
    let Some(engine) = engine() else { return };
    let spec = spec(mixture(), 0);
    let data = Batch::random(&spec, N, 7);
    let start = random_flow(&spec, 24).params().to_vec();
    let first = OptimiserState::new(start.len());
    let whole = || {
        let mut executor = trainer(&engine, &spec, &data, &start, 1.0, &first);
        let loss = run(&mut executor, &data, 0..20, 0.01);
        (loss, executor.params().unwrap(), executor.optimiser_state().unwrap())
    };
    let one = whole();
    assert_eq!(one, whole());
    let mut executor = trainer(&engine, &spec, &data, &start, 1.0, &first);
    let mut loss = run(&mut executor, &data, 0..9, 0.01);
    let (params, state) = (executor.params().unwrap(), executor.optimiser_state().unwrap());
    let mut resumed = trainer(&engine, &spec, &data, &params, 1.0, &state);
    loss.extend(run(&mut resumed, &data, 9..20, 0.01));
    assert_eq!(one, (loss, resumed.params().unwrap(), resumed.optimiser_state().unwrap()));
}
