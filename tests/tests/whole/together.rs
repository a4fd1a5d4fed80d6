//! Flows that are trained together: each is what it is alone, replicas leave the fit alone and tell its error, and the number
//! of components that is taken is the one that the points have.

use crate::rounds::cores;
use lwflow_engine::{DeviceChoice, Engine, EngineSettings, OptimiserPlace};
use lwflow_host::HostError;
use lwflow_host::diagnostics::error_bars;
use lwflow_host::fit::{BaseSettings, Components, FitInput, FitSettings, fit, fit_with_replicas};
use lwflow_host::outer::Support;
use lwflow_host::rng::CounterField;
use lwflow_host::targets::Target;
use lwflow_host::train::{Member, TrainProgress, TrainSettings, TrainingData, train, train_all, train_group};
use lwflow_model::{BaseSpec, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec, ParamLayout};
use lwflow_tests::{engine, small_fit, target_input};
use std::ops::ControlFlow;

fn go_on(_: TrainProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn spec(k: usize) -> FlowSpec {
    let settings = FlowSettings { n_layers: 2, hidden: vec![8, 8], ..FlowSettings::default() };
    let mixture = MixtureSpec { n_components: k, ..MixtureSpec::default() };
    FlowSpec::build(2, 0, &settings, BaseSpec::Mixture(mixture), 5).unwrap()
}

/// Two clusters, whose proposal is known, in blocks.
fn points(n: usize) -> TrainingData {
    let mut z = vec![0.0; 2 * n];
    CounterField::new(3, "points", 2).fill_standard_normal(0, &mut z);
    let x: Vec<f32> = z
        .chunks_exact(2)
        .enumerate()
        .flat_map(|(i, z)| {
            let side = if i % 2 == 0 { 1.5 } else { -1.5 };
            [(0.4 * z[0] + side) as f32, (0.4 * z[1]) as f32]
        })
        .collect();
    TrainingData {
        n,
        x,
        weights: vec![1.0 / n as f64; n],
        log_proposal: Some(vec![-2.0; n]),
        blocks: Some((0..n as u32).map(|i| i / 20).collect()),
        ..TrainingData::default()
    }
}

/// The cores, and the software adapter with the optimiser on either side.
fn engines() -> Vec<Engine> {
    let mut engines = vec![cores()];
    for optimiser in [OptimiserPlace::Host, OptimiserPlace::Device] {
        let settings = EngineSettings { device: DeviceChoice::Gpu, optimiser, ..EngineSettings::default() };
        engines.extend(engine().map(|_| Engine::new(&settings).unwrap()));
    }
    engines
}

#[test]
fn flows_that_train_together_end_as_they_do_alone() {
    let data = points(600);
    let settings = TrainSettings {
        batch_size: 60,
        max_visits: 12_000,
        learning_rate: 0.02,
        patience: 5,
        validation_share: 0.2,
        ..TrainSettings::default()
    };
    let counts: Vec<f64> = (0..data.n).map(|i| 0.5 + (i / 20 % 3) as f64 * 0.5).collect();
    for engine in engines() {
        let specs = [1, 3, 2, 2].map(spec);
        let start = |f: usize| {
            let mut params = Flow::<f32>::init(specs[f].clone(), f as u64).unwrap().params().to_vec();
            // The third never has a finite loss.
            if f == 2 {
                params[..ParamLayout::new(&specs[f]).base].fill(1e20);
            }
            params
        };
        let member = |f: usize| Member {
            spec: &specs[f],
            params: start(f),
            counts: (f == 1).then_some(&counts),
            seed: 7 + f as u64,
            keeps_start: true,
        };
        let mut group = engine.flow_group(&specs).unwrap();
        let together =
            train_group(&mut group, (0..4).map(member).collect(), &data, &settings, go_on).unwrap();
        let mut steps = Vec::new();
        for (f, together) in together.into_iter().enumerate() {
            let mut alone = engine.flow_group(&specs[f..=f]).unwrap();
            let one = train_group(&mut alone, vec![member(f)], &data, &settings, go_on).unwrap().remove(0);
            match (together, one) {
                (Ok((params, report)), Ok((one, report_of_one))) => {
                    assert!(params == one, "{}: flow {f}", engine.info());
                    assert_eq!(
                        (report.best_step, report.stop),
                        (report_of_one.best_step, report_of_one.stop)
                    );
                    let log_prob = group.log_prob(f, &data.x, &[]).unwrap();
                    assert!(log_prob == alone.log_prob(0, &data.x, &[]).unwrap(), "flow {f}");
                    steps.push(report.steps);
                }
                (Err(HostError::NonFinite { step: a, .. }), Err(HostError::NonFinite { step: b, .. })) => {
                    assert_eq!((f, a, b), (2, 20, 20));
                }
                other => panic!("flow {f}: {other:?}"),
            }
        }
        // One had no patience left while others went on.
        println!("{}: steps {steps:?}", engine.info());
        assert!(steps.len() == 3 && steps.iter().min() < steps.iter().max(), "{steps:?}");
    }
}

#[test]
fn counts_weigh_points_as_repeating_them_does() {
    let engine = cores();
    let settings =
        TrainSettings { max_visits: 6000, batch_size: 60, validation_share: 0.0, ..TrainSettings::default() };
    let data = TrainingData { blocks: None, log_proposal: None, ..points(300) };
    let spec = spec(2);
    let params = Flow::<f32>::init(spec.clone(), 1).unwrap().params().to_vec();
    let counts: Vec<f64> = (0..data.n).map(|i| if i % 2 == 0 { 1.6 } else { 0.4 }).collect();
    let member =
        Member { spec: &spec, params: params.clone(), counts: Some(&counts), seed: 2, keeps_start: true };
    let mut group = engine.flow_group(std::slice::from_ref(&spec)).unwrap();
    let counted = train_group(&mut group, vec![member], &data, &settings, go_on).unwrap().remove(0).unwrap();
    let mut weighted = data.clone();
    weighted.weights.iter_mut().zip(&counts).for_each(|(w, c)| *w *= c);
    let mut executor = engine.flow(&spec).unwrap();
    let (same, _) = train(&mut executor, &spec, params, &weighted, &settings, 2, go_on).unwrap();
    assert!(counted.0.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-3), "{counted:?} {same:?}");
}

/// Standard normal points of one parameter.
fn normal_input(n: usize) -> FitInput {
    let mut theta = vec![0.0; n];
    CounterField::new(11, "normal", 1).fill_standard_normal(0, &mut theta);
    FitInput {
        names: vec!["a".to_owned()],
        labels: vec!["a".to_owned()],
        supports: vec![Support::default()],
        theta,
        log_weights: vec![0.0; n],
        ..FitInput::default()
    }
}

#[test]
fn replicas_leave_the_fit_alone_and_tell_its_error() {
    let components = Components::Fixed(1);
    let settings = FitSettings {
        base: BaseSettings::Mixture { components, covariance: Covariance::Full, trainable: true },
        flow: FlowSettings { n_layers: 0, hidden: vec![], ..FlowSettings::default() },
        training: TrainSettings { batch_size: 200, max_visits: 60_000, ..TrainSettings::default() },
        ..FitSettings::default()
    };
    let n = 2000;
    let input = normal_input(n);
    for engine in engines() {
        let go_on = |_| ControlFlow::Continue(());
        let (one, _) = fit(&engine, &input, &settings, 3, go_on).unwrap();
        let (with, replicas, _) = fit_with_replicas(&engine, &input, &settings, 24, 3, go_on).unwrap();
        assert!(one.flow.params() == with.flow.params());
        assert_eq!(replicas.len(), 24);
        let bars = error_bars(&engine, &with, &replicas, 20_000, 1).unwrap();
        let parameter = &bars.parameters[0];
        // Of the mean of n points, and of their standard deviation.
        for (got, exact) in [
            (parameter.mean.error, 1.0 / (n as f64).sqrt()),
            (parameter.sd.error, 1.0 / (2.0 * n as f64).sqrt()),
        ] {
            println!("{}: {got:.4}, of as many points {exact:.4}", engine.info());
            // A standard deviation of 24 values has an error of 15 %, and training adds noise of its own.
            assert!(got > 0.6 * exact && got < 2.0 * exact, "{got} {exact}");
        }
        let own: f64 = input.theta.iter().sum::<f64>() / n as f64;
        assert!((parameter.mean.value - own).abs() < 0.02, "{parameter:?}");
        assert!(bars.log_prob_sd_median > 0.0 && bars.log_prob_sd_median < 0.1, "{bars:?}");
        assert!(error_bars(&engine, &with, &replicas[..1], 20_000, 1).is_err());
    }
}

#[test]
fn the_number_of_components_is_that_of_the_modes() {
    let engine = cores();
    for (target, expected) in [(Target::Gauss1, 1), (Target::Gauss3, 3)] {
        let input = target_input(target, 16_384, 3);
        let components = Components::Trained { max: 5 };
        let base = BaseSettings::Mixture { components, covariance: Covariance::Full, trainable: true };
        let settings = small_fit(base, 40_000);
        let (posterior, report) = fit(&engine, &input, &settings, 1, |_| ControlFlow::Continue(())).unwrap();
        println!("{target:?}: {:?}", report.component_trials);
        assert_eq!(report.component_trials.len(), 5);
        assert_eq!((report.n_components, report.components.len()), (expected, 0), "{report:?}");
        assert!(report.notes.iter().any(|note| note.starts_with(&format!("K = {expected} components"))));
        let BaseSpec::Mixture(base) = &posterior.spec().base else { panic!("{target:?}") };
        assert_eq!(base.n_components, expected);
    }
}

#[test]
fn flows_that_do_not_fit_together_train_in_parts() {
    // An adapter binds 128 MiB at a time, and a flow of this width takes more than a third of it.
    let Some(engine) = engine() else { return };
    let settings = FlowSettings { n_layers: 6, hidden: vec![1024, 1024], ..FlowSettings::default() };
    let spec = FlowSpec::build(2, 0, &settings, BaseSpec::Gaussian, 5).unwrap();
    let specs = [spec.clone(), spec.clone(), spec.clone()];
    let Err(error) = engine.flow_group(&specs) else { return println!("this adapter holds them all") };
    println!("{error}");
    let data = TrainingData { blocks: None, log_proposal: None, ..points(40) };
    let settings = TrainSettings { batch_size: 20, max_visits: 20, ..TrainSettings::default() };
    let start = Flow::<f32>::init(spec.clone(), 1).unwrap().params().to_vec();
    let member = |seed| Member { spec: &spec, params: start.clone(), counts: None, seed, keeps_start: false };
    let mut seen = Vec::new();
    let mut watch = |p: TrainProgress| {
        seen.push((p.visits, p.max_visits));
        ControlFlow::Continue(())
    };
    let trained = train_all(&engine, (0..3).map(member).collect(), &data, &settings, &mut watch).unwrap();
    // One, and then the other two.
    assert_eq!(seen, [(20, 60), (60, 60)]);
    let params: Vec<Vec<f32>> = trained.into_iter().map(|trained| trained.unwrap().0).collect();
    assert!(params.len() == 3 && params[0] != start && params[0] != params[1] && params[1] != params[2]);
}
