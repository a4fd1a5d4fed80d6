//! Training through the engine against the same steps with gradients of the f64 model, replay to the bit, and how a training
//! ends. Both sides of a comparison use the host's Adam, so what differs is the gradient alone.

use crate::rounds::cores;
use lwflow_engine::{Engine, EngineSettings, OptimiserPlace};
use lwflow_host::HostError;
use lwflow_host::adam::{Adam, AdamSettings, StepOutcome};
use lwflow_host::fit::{BaseSettings, Components, fit};
use lwflow_host::targets::Target;
use lwflow_host::train::{RateCourse, StopReason, TrainProgress, TrainSettings, TrainingData, train};
use lwflow_model::{BaseSpec, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec};
use lwflow_tests::{Batch, Random, cast, engine, random_flow, small_fit, target_input};
use std::ops::ControlFlow;

/// Allowed difference of a loss in nats during ten steps of rate 0.01, a hundred times what rounding makes of it.
const TOLERANCE: f64 = 1e-5;

#[test]
fn ten_steps_follow_the_f64_model() {
    let Some(engine) = engine() else { return };
    for context_dim in [0, 3] {
        let settings = FlowSettings { n_layers: 2, hidden: vec![8, 8], ..FlowSettings::default() };
        let mixture = MixtureSpec { n_components: 3, weight_floor: 0.01, ..MixtureSpec::default() };
        let spec = FlowSpec::build(2, context_dim, &settings, BaseSpec::Mixture(mixture), 21).unwrap();
        let flow = random_flow(&spec, 22);
        let mut executor = engine.flow(&spec).unwrap();
        let adam =
            || Adam::new(flow.params().len(), AdamSettings { clip_norm: Some(5.0), ..Default::default() });
        let (mut ours, mut exact) = (flow.params().to_vec(), flow.params().to_vec());
        let (mut adam_ours, mut adam_exact) = (adam().unwrap(), adam().unwrap());
        let mut losses = Vec::new();
        for step in 0..10 {
            let batch = Batch::random(&spec, 128, 100 + step);
            executor.set_params(&ours).unwrap();
            let got = executor.gradient(&batch.theta, &batch.context, &batch.weights, None).unwrap();
            let taken = adam_ours.step(&mut ours, &got.grad, 0.01, None).unwrap();
            assert!(matches!(taken, StepOutcome::Taken { .. }));

            let wide = exact.iter().map(|&p| f64::from(p)).collect();
            let model = Flow::<f64>::from_params(spec.clone(), wide).unwrap();
            let (theta, context) = (cast::<f64>(&batch.theta), cast::<f64>(&batch.context));
            let want = model.gradient(&theta, &context, &cast::<f64>(&batch.weights), None).unwrap();
            let grad: Vec<f32> = want.params.iter().map(|&g| g as f32).collect();
            adam_exact.step(&mut exact, &grad, 0.01, None).unwrap();
            losses.push((got.loss, want.loss));
        }
        for (step, (got, want)) in losses.iter().enumerate() {
            assert!((got - want).abs() < TOLERANCE, "C {context_dim}, step {step}: loss {got}, f64 {want}");
        }
        let (first, last) = (losses[0].1, losses[9].1);
        assert!(last < first - 0.01, "ten steps did not lower the loss: {first} to {last}");
        let gap = losses.iter().map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
        println!("C {context_dim}: loss {first:.4} to {last:.4}, largest gap to f64 {gap:.1e}");
    }
}

#[test]
fn a_fit_replays_to_the_bit() {
    let Some(engine) = engine() else { return };
    let input = target_input(Target::Gauss2, 2048, 3);
    let base = BaseSettings::Mixture {
        components: Components::Fixed(2),
        covariance: Covariance::Full,
        trainable: true,
    };
    let settings = small_fit(base, 128 * 20);
    // The first engine of the two has the optimiser where the table puts it, the second on the device.
    let device = EngineSettings { optimiser: OptimiserPlace::Device, ..engine.settings().clone() };
    let mut losses = Vec::new();
    for engine in [engine, Engine::new(&device).unwrap()] {
        let run = |seed| {
            let (posterior, report) =
                fit(&engine, &input, &settings, seed, |_| ControlFlow::Continue(())).unwrap();
            let mut executor = engine.flow(posterior.spec()).unwrap();
            let samples = posterior.sample(&mut executor, 500, &[], seed).unwrap();
            (posterior, serde_json::to_string(&report).unwrap(), samples, report)
        };
        let (a, b, other) = (run(5), run(5), run(6));
        assert!(a.0.flow.params() == b.0.flow.params(), "parameters differ between two runs of one seed");
        assert_eq!(a.0.outer, b.0.outer);
        assert!(a.1 == b.1, "reports differ:\n{}\n{}", a.1, b.1);
        assert!(a.2.theta == b.2.theta && a.2.log_prob == b.2.log_prob, "samples differ");
        assert!(a.0.flow.params() != other.0.flow.params(), "the seed has no effect");
        assert_eq!(a.3.training.steps, 20);
        losses.push(a.3.training.best_validation_loss);
    }
    assert!((losses[0] - losses[1]).abs() < 1e-3, "optimiser by the table and on the device: {losses:?}");
}

/// A rate that takes the parameters to where every later loss is not finite, with the optimiser on the cores, on the host
/// and on the device.
#[test]
fn steps_that_stay_not_finite_end_a_fit() {
    let input = target_input(Target::Gauss2, 2048, 1);
    let mut settings = small_fit(BaseSettings::Gaussian, 128 * 60);
    settings.training.learning_rate = 1e30;
    settings.training.schedule = RateCourse::Constant;
    let mut engines = vec![cores()];
    if let Some(engine) = engine() {
        let device = EngineSettings { optimiser: OptimiserPlace::Device, ..engine.settings().clone() };
        engines.extend([engine, Engine::new(&device).unwrap()]);
    }
    for engine in engines {
        let error = fit(&engine, &input, &settings, 1, |_| ControlFlow::Continue(())).unwrap_err();
        let HostError::NonFinite { step, skipped, loss } = error else {
            panic!("{}: {error}", engine.info())
        };
        assert!(skipped == 20 && (21..25).contains(&step), "{}: {skipped} of {step}", engine.info());
        let text = error.to_string();
        assert!(
            text.contains("20 steps in a row were not finite") && text.contains("learning_rate"),
            "{text}"
        );
        println!("{}: loss {loss} at step {step}", engine.info().kind);
    }
}

/// Few points far from the start: the flow first learns where they lie, and then learns them by heart.
fn few_points() -> (FlowSpec, Vec<f32>, TrainingData) {
    let settings = FlowSettings { n_layers: 2, hidden: vec![16, 16], ..FlowSettings::default() };
    let spec = FlowSpec::build(2, 0, &settings, BaseSpec::Gaussian, 21).unwrap();
    let params = Flow::<f32>::init(spec.clone(), 22).unwrap().params().to_vec();
    let mut random = Random::new(5);
    let n = 80;
    let x = (0..2 * n).map(|_| (2.0 + 0.3 * (0..6).map(|_| random.value()).sum::<f64>()) as f32).collect();
    (spec, params, TrainingData { n, x, weights: vec![1.0 / n as f64; n], ..TrainingData::default() })
}

fn few_settings() -> TrainSettings {
    TrainSettings {
        batch_size: 40,
        max_visits: 8000,
        learning_rate: 0.03,
        schedule: RateCourse::Constant,
        validation_share: 0.3,
        ..TrainSettings::default()
    }
}

#[test]
fn early_stopping_restores_the_best_parameters() {
    let engine = cores();
    let (spec, params, data) = few_points();
    let run = |patience, last: usize| {
        let settings = TrainSettings { patience, ..few_settings() };
        let mut executor = engine.flow(&spec).unwrap();
        let progress = |p: TrainProgress| {
            if p.visits < last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let (kept, report) =
            train(&mut executor, &spec, params.clone(), &data, &settings, 3, progress).unwrap();
        let log_prob = executor.log_prob(&data.x, &[]).unwrap();
        (kept, report, log_prob)
    };
    let (kept, report, log_prob) = run(4, usize::MAX);
    let losses: Vec<String> = report.history.iter().map(|r| format!("{:.3}", r.validation_loss)).collect();
    println!("best at step {} of {}: {}", report.best_step, report.steps, losses.join(" "));
    assert_eq!(report.stop, StopReason::Patience);
    let best = report.history.iter().position(|row| row.step == report.best_step).unwrap();
    // Four validations without a better one, and no more.
    assert_eq!(best + 4, report.history.len() - 1);
    let least = report.history.iter().fold(f64::INFINITY, |a, row| a.min(row.validation_loss));
    assert_eq!((report.best_validation_loss, report.history[best].validation_loss), (least, least));
    assert!(run(0, usize::MAX).1.steps > report.steps);
    // What is kept is, to the bit, what a run has that is stopped there, and the executor has it too.
    let (then, stopped, log_prob_then) = run(4, 40 * report.best_step);
    assert_eq!((stopped.stop, stopped.steps), (StopReason::Interrupted, report.best_step));
    assert!(kept == then && log_prob == log_prob_then && kept != params);
}

#[test]
fn a_plateau_halves_the_rate_at_the_sixth_validation_without_a_better_one() {
    let engine = cores();
    let (spec, params, data) = few_points();
    let settings = TrainSettings { schedule: RateCourse::Plateau, ..few_settings() };
    let mut executor = engine.flow(&spec).unwrap();
    let go_on = |_: TrainProgress| ControlFlow::Continue(());
    let (_, report) = train(&mut executor, &spec, params, &data, &settings, 3, go_on).unwrap();
    let (mut rate, mut least, mut worse) = (settings.learning_rate, f64::INFINITY, 0);
    for row in &report.history {
        assert_eq!(row.learning_rate, rate, "step {}", row.step);
        worse = if row.validation_loss < least { 0 } else { worse + 1 };
        least = least.min(row.validation_loss);
        if worse == 6 {
            (rate, worse) = (0.5 * rate, 0);
        }
    }
    let last = report.history.last().unwrap().learning_rate;
    println!("rate {} to {last}", settings.learning_rate);
    assert!(last <= 0.25 * settings.learning_rate, "{last}");
}
