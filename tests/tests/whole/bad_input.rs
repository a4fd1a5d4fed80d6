//! Inputs at the edge of what makes sense: a fit either says clearly what is wrong or ends with finite parameters.
//! Nothing here may panic or give NaN.

use lwflow_host::HostError;
use lwflow_host::fit::{BaseSettings, Components, FitInput, fit};
use lwflow_host::posterior::Posterior;
use lwflow_host::targets::Target;
use lwflow_host::train::RateCourse;
use lwflow_model::Covariance;
use lwflow_tests::{Random, engine, small_fit, supports, target_input};
use std::ops::ControlFlow;

fn mixture(k: usize) -> BaseSettings {
    BaseSettings::Mixture { components: Components::Fixed(k), covariance: Covariance::Full, trainable: true }
}

/// Points of `d` parameters uniform in (-1, 1), unbounded, with equal weights.
fn uniform(n: usize, d: usize) -> FitInput {
    let mut random = Random::new(8);
    FitInput {
        names: (0..d).map(|j| format!("p{j}")).collect(),
        labels: (0..d).map(|j| format!("p_{j}")).collect(),
        supports: supports(&vec![(None, None); d]),
        theta: (0..n * d).map(|_| random.value()).collect(),
        log_weights: vec![0.0; n],
        ..FitInput::default()
    }
}

/// Fits with few visits; a posterior must be finite in parameters, samples and densities.
fn attempt(input: &FitInput, base: BaseSettings) -> Option<Result<Posterior, HostError>> {
    let engine = engine()?;
    let result = fit(&engine, input, &small_fit(base, 128 * 5), 1, |_| ControlFlow::Continue(()));
    Some(result.map(|(posterior, report)| {
        assert!(posterior.flow.params().iter().all(|p| p.is_finite()), "a parameter is not finite");
        assert!(report.training.history.iter().all(|r| !r.validation_loss.is_nan()), "NaN in the history");
        let mut executor = engine.flow(posterior.spec()).unwrap();
        let samples = posterior.sample(&mut executor, 200, &[], 1).unwrap();
        assert!(samples.theta.iter().all(|x| x.is_finite()), "a sample is not finite");
        assert!(samples.log_prob.iter().all(|x| !x.is_nan()), "a density is NaN");
        posterior
    }))
}

#[test]
fn one_parameter_and_equal_weights() {
    let Some(result) = attempt(&uniform(500, 1), BaseSettings::Gaussian) else { return };
    assert_eq!(result.unwrap().dim(), 1);
    attempt(&uniform(500, 1), mixture(2)).unwrap().unwrap();
    attempt(&uniform(500, 2), mixture(2)).unwrap().unwrap();
}

#[test]
fn absurd_learning_rate_gives_no_nan() {
    let Some(engine) = engine() else { return };
    let input = target_input(Target::Gauss2, 2048, 1);
    for base in [BaseSettings::Gaussian, mixture(2)] {
        let mut settings = small_fit(base, 128 * 60);
        settings.training.learning_rate = 1e3;
        settings.training.schedule = RateCourse::Constant;
        settings.training.clip_norm = 1e30;
        settings.flow.s_max = 20.0;
        match fit(&engine, &input, &settings, 1, |_| ControlFlow::Continue(())) {
            Ok((posterior, report)) => {
                assert!(posterior.flow.params().iter().all(|p| p.is_finite()));
                assert!(report.training.best_validation_loss.is_finite());
            }
            Err(HostError::NonFinite { skipped, .. }) => assert!(skipped > 0),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn no_weight_and_illegal_weights_are_named() {
    let mut input = uniform(100, 2);
    input.log_weights.fill(f64::NEG_INFINITY);
    let Some(result) = attempt(&input, BaseSettings::Gaussian) else { return };
    let error = result.unwrap_err();
    assert!(matches!(error, HostError::AllWeightsZero { n: 100, .. }), "{error}");
    for bad in [f64::NAN, f64::INFINITY] {
        let mut input = uniform(100, 2);
        input.log_weights[17] = bad;
        let error = attempt(&input, BaseSettings::Gaussian).unwrap().unwrap_err();
        assert!(matches!(error, HostError::BadLogValue { row: 17, .. }), "{error}");
    }
}

#[test]
fn a_single_effective_point_has_no_density() {
    let mut input = uniform(100, 2);
    input.log_weights.fill(f64::NEG_INFINITY);
    input.log_weights[3] = -4.0;
    for base in [BaseSettings::Gaussian, mixture(2)] {
        let Some(result) = attempt(&input, base) else { return };
        let error = result.unwrap_err().to_string();
        assert!(error.contains("p0") && error.contains("only row 3 carries weight"), "{error}");
    }
    // One point dominates, the others keep weights that f64 can hold: an error or a finite posterior.
    let mut input = uniform(100, 2);
    input.log_weights.fill(-60.0);
    input.log_weights[3] = 0.0;
    for base in [BaseSettings::Gaussian, mixture(2)] {
        let _ = attempt(&input, base);
    }
}

#[test]
fn constant_columns_are_named_and_duplicates_allowed() {
    for value in [0.0, 0.1, -1e9] {
        let mut input = uniform(100, 2);
        let mut random = Random::new(5);
        input.log_weights.iter_mut().for_each(|w| *w = random.value());
        input.theta.iter_mut().skip(1).step_by(2).for_each(|x| *x = value);
        let Some(result) = attempt(&input, BaseSettings::Gaussian) else { return };
        let error = result.unwrap_err().to_string();
        assert!(error.contains("p1") && error.contains("same value"), "{value}: {error}");
    }
    let mut input = uniform(200, 2);
    for i in 0..200 {
        let from = 2 * (i % 4);
        let (a, b) = (input.theta[from], input.theta[from + 1]);
        (input.theta[2 * i], input.theta[2 * i + 1]) = (a, b);
    }
    attempt(&input, BaseSettings::Gaussian).unwrap().unwrap();
    attempt(&input, mixture(2)).unwrap().unwrap();
    let error = attempt(&input, mixture(5)).unwrap().unwrap_err();
    assert!(matches!(error, HostError::TooFewPoints { n_components: 5, n_points: 4 }), "{error}");
}

#[test]
fn control_variate_needs_a_known_proposal() {
    let Some(engine) = engine() else { return };
    let mut settings = small_fit(BaseSettings::Gaussian, 128);
    settings.training.control_variate = lwflow_host::train::ControlVariate::On;
    let error = fit(&engine, &uniform(100, 2), &settings, 1, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("control_variate"), "{error}");
}

#[test]
fn too_few_effective_points_are_no_fit() {
    let refused = |input: &FitInput| match attempt(input, BaseSettings::Gaussian)? {
        Err(HostError::TooFewEffective { effective, n_weighted, .. }) => Some((effective, n_weighted)),
        other => panic!("{other:?}"),
    };
    let mut input = uniform(100, 2);
    input.log_weights.fill(f64::NEG_INFINITY);
    (input.log_weights[3], input.log_weights[4]) = (-4.0, -4.0);
    let Some((effective, n_weighted)) = refused(&input) else { return };
    assert!((effective - 2.0).abs() < 1e-9 && n_weighted == 2, "{effective} of {n_weighted}");
    // A chain whose autocorrelation leaves little of it.
    let mut input = uniform(100, 2);
    input.effective = Some(3.0);
    assert_eq!(refused(&input), Some((3.0, 100)));
    input.effective = Some(1e9);
    attempt(&input, BaseSettings::Gaussian).unwrap().unwrap();
}

#[test]
fn visits_are_bounded_by_what_the_points_are_worth_and_a_missing_validation_is_said() {
    let Some(engine) = engine() else { return };
    let mut input = uniform(60, 2);
    let mut settings = small_fit(BaseSettings::Gaussian, 1 << 20);
    let mut run = |input: &FitInput, share: f64| {
        settings.training.validation_share = share;
        fit(&engine, input, &settings, 1, |_| ControlFlow::Continue(())).unwrap().1
    };
    let whole = run(&input, 0.1);
    assert!((6000..6128).contains(&whole.training.visits), "{}", whole.training.visits);
    assert!(whole.training.held_out && !whole.notes.iter().any(|n| n.contains("hold some out")));
    input.effective = Some(12.0);
    let chain = run(&input, 0.01);
    assert!((1200..1328).contains(&chain.training.visits), "{}", chain.training.visits);
    // One of a hundred points is none of sixty.
    assert!(!chain.training.held_out && chain.notes.iter().any(|n| n.contains("hold some out")));
}
