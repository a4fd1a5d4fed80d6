//! Whole passes of the engine against the definition, with the error bound that the definition itself propagates.
//! The worst ratio of every pass is printed; one above the constant fails.

use lwflow_model::{Activation, BaseSpec, Coupling, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec};
use lwflow_tests::{Batch, Bounded, SLACK, cast, compare, engine, error_in_bounds, random_flow};

fn mixture(covariance: Covariance) -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec {
        n_components: 3,
        covariance,
        weight_floor: 0.01,
        ..MixtureSpec::default()
    })
}

#[test]
fn passes_stay_within_the_propagated_bound() {
    let Some(engine) = engine() else { return };
    let affine = Coupling::Affine;
    let spline = |n_bins, bound| Coupling::Spline { n_bins, bound };
    // dim, context_dim, samples, activation, coupling, base, control variate
    let cases = [
        (2, 0, 300, Activation::Silu, affine, BaseSpec::Gaussian, false),
        (2, 0, 300, Activation::Silu, affine, mixture(Covariance::Full), true),
        (3, 3, 65, Activation::Tanh, affine, mixture(Covariance::Diagonal), true),
        (5, 3, 33, Activation::Relu, affine, BaseSpec::Gaussian, false),
        (1, 0, 31, Activation::Silu, affine, mixture(Covariance::Full), false),
        (1, 3, 1, Activation::Silu, affine, BaseSpec::Gaussian, true),
        (3, 3, 65, Activation::Silu, spline(4, 3.0), mixture(Covariance::Full), true),
        (1, 0, 31, Activation::Silu, spline(2, 1.5), BaseSpec::Gaussian, false),
    ];
    for (d, c, n, activation, coupling, base, control) in cases {
        // A bound of independent errors grows fast through the many terms of a spline that share one point.
        let n_layers = if coupling.is_affine() { 2 } else { 1 };
        let settings =
            FlowSettings { n_layers, hidden: vec![8, 8], activation, coupling, ..FlowSettings::default() };
        let spec = FlowSpec::build(d, c, &settings, base, 11).unwrap();
        let flow = random_flow(&spec, 12);
        let exact: Flow<Bounded> = flow.cast();
        let batch = Batch::random(&spec, n, 13);
        let (theta, context) = (cast::<Bounded>(&batch.theta), cast::<Bounded>(&batch.context));
        let mut executor = engine.flow(&spec).unwrap();
        executor.set_params(flow.params()).unwrap();
        let mut worst = Vec::new();

        let (z, log_det) = executor.inverse(&batch.theta, &batch.context).unwrap();
        let (z_exact, log_det_exact) = exact.inverse_and_log_det(&theta, &context).unwrap();
        worst.push(("inverse", compare("inverse", &z, &z_exact)));
        worst.push(("log_det", compare("inverse log_det", &log_det, &log_det_exact)));

        let (x, log_det) = executor.forward(&batch.theta, &batch.context).unwrap();
        let (x_exact, log_det_exact) = exact.forward_and_log_det(&theta, &context).unwrap();
        worst.push(("forward", compare("forward", &x, &x_exact)));
        worst.push(("log_det", compare("forward log_det", &log_det, &log_det_exact)));

        let log_prob = executor.log_prob(&batch.theta, &batch.context).unwrap();
        worst.push(("log_prob", compare("log_prob", &log_prob, &exact.log_prob(&theta, &context).unwrap())));

        // The bound of a spline's gradient is wider than the gradient; crates/engine/tests/engine/flow.rs compares it.
        if !coupling.is_affine() {
            println!("D {d}, C {c}, n {n}, {activation:?}, {coupling:?}: error / bound {worst:.3?}");
            continue;
        }
        let lv = control.then_some(&batch.log_inv_proposal);
        let got =
            executor.gradient(&batch.theta, &batch.context, &batch.weights, lv.map(|v| &v[..])).unwrap();
        let lv = lv.map(|lv| cast::<Bounded>(lv));
        let want = exact.gradient(&theta, &context, &cast(&batch.weights), lv.as_deref()).unwrap();
        worst.push(("gradient", compare("gradient", &got.grad, &want.params)));
        worst.push(("grad_context", compare("grad_context", &got.grad_context, &want.context)));
        worst.push(("loss", compare("loss", &[got.loss as f32], &[want.loss])));
        assert_eq!(got.log_prob, log_prob, "log_prob and gradient give different bits");
        println!("D {d}, C {c}, n {n}, {activation:?}, {coupling:?}: error / bound {worst:.3?}");
    }
}

/// The comparison can fail: one parameter of 200 that is off by one part in a hundred is seen in every pass.
#[test]
fn a_small_mistake_is_out_of_bounds() {
    let Some(engine) = engine() else { return };
    let settings = FlowSettings { n_layers: 2, hidden: vec![8, 8], ..FlowSettings::default() };
    let spec = FlowSpec::build(2, 0, &settings, BaseSpec::Gaussian, 11).unwrap();
    let flow = random_flow(&spec, 12);
    let batch = Batch::random(&spec, 300, 13);
    let (exact, theta) = (flow.cast::<Bounded>(), cast::<Bounded>(&batch.theta));
    let mut params = flow.params().to_vec();
    let weight = flow.layout().block("layer1/linear2/weight").unwrap().offset;
    params[weight] *= 1.01;
    let mut executor = engine.flow(&spec).unwrap();
    executor.set_params(&params).unwrap();
    let (z, _) = executor.inverse(&batch.theta, &[]).unwrap();
    let (x, _) = executor.forward(&batch.theta, &[]).unwrap();
    let got = executor.gradient(&batch.theta, &[], &batch.weights, None).unwrap();
    let want = exact.gradient(&theta, &[], &cast(&batch.weights), None).unwrap();
    let z_want = exact.inverse_and_log_det(&theta, &[]).unwrap().0;
    let x_want = exact.forward_and_log_det(&theta, &[]).unwrap().0;
    for (what, got, want) in [
        ("inverse", &z, &z_want),
        ("forward", &x, &x_want),
        ("log_prob", &got.log_prob, &want.log_prob),
        ("gradient", &got.grad, &want.params),
    ] {
        let (ratio, _) = error_in_bounds(what, got, want);
        assert!(ratio > SLACK, "{what}: a mistake of 1e-2 is only {ratio:.2} times the bound");
    }
}
