//! Training through the engine against the same steps with gradients of the f64 model, and replay to the bit.
//! Both sides use the host's Adam, so what differs is the gradient alone.

use lwflow_engine::{Engine, EngineSettings, OptimiserPlace};
use lwflow_host::adam::{Adam, AdamSettings, StepOutcome};
use lwflow_host::fit::{BaseSettings, Components, fit};
use lwflow_host::targets::Target;
use lwflow_model::{BaseSpec, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec};
use lwflow_tests::{Batch, cast, engine, random_flow, small_fit, target_input};
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
