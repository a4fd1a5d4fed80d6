//! Draws for many contexts at once, and that none of them leaves the bounds. The flows have random parameters far from the
//! identity: what holds for them holds for any training.

use super::*;
use crate::rng::CounterField;
use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_model::{BaseSpec, Bijection, Bound, Coupling, Edge, FlowSettings, FlowSpec, MixtureSpec};

fn engine() -> Engine {
    Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() }).unwrap()
}

/// The adapter engine, on the software adapter where there is one; where there is none, a line says so.
fn adapter() -> Option<Engine> {
    let device = if cfg!(target_os = "macos") { DeviceChoice::Gpu } else { DeviceChoice::Software };
    lwflow_skip::adapter(Engine::new(&EngineSettings { device, ..EngineSettings::default() }))
}

/// Four parameters, with soft, hard and mixed edges and none, of `context_dim` context values.
fn posterior(context_dim: usize, base: BaseSpec) -> Posterior {
    posterior_of(context_dim, base, Coupling::Affine)
}

fn posterior_of(context_dim: usize, base: BaseSpec, coupling: Coupling) -> Posterior {
    let settings = FlowSettings { n_layers: 4, hidden: vec![8, 8], coupling, ..FlowSettings::default() };
    let spec = FlowSpec::build(4, context_dim, &settings, base, 3).unwrap();
    let mut params = Flow::<f32>::init(spec.clone(), 3).unwrap().params().to_vec();
    for (i, value) in params.iter_mut().enumerate() {
        *value += 0.4 * CounterField::new(5, "test", 1).standard_normal(i as u64, 0) as f32;
    }
    let bound = |value, edge| Some(Bound { value, edge });
    let bijection = |lower, upper| Bijection { lower, upper, ..Bijection::UNBOUNDED };
    let bijections = vec![
        bijection(bound(-1.0, Edge::Soft), bound(1.0, Edge::Soft)),
        bijection(bound(0.0, Edge::Hard), bound(1e-6, Edge::Hard)),
        bijection(bound(1e6, Edge::Soft), bound(1e6 + 1.0, Edge::Hard)),
        Bijection::UNBOUNDED,
    ];
    let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
    Posterior {
        labels: names.clone(),
        names,
        outer: OuterTransform { scale: vec![1.0, 1.5, 0.4, 1.0], ..OuterTransform::new(bijections) },
        flow: Flow::from_params(spec, params).unwrap(),
        context_location: vec![1.0; context_dim],
        context_scale: vec![2.0; context_dim],
        novelty: None,
        seed: 3,
        evidence: None,
    }
}

fn mixture() -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec { n_components: 3, ..MixtureSpec::default() })
}

#[test]
fn the_posterior_of_one_observation_is_the_same_without_context() {
    for coupling in [Coupling::Affine, Coupling::Spline { n_bins: 5, bound: 3.0 }] {
        let with = posterior_of(2, mixture(), coupling);
        let observation = [1.7, -0.4];
        let alone = with.given(&observation).unwrap();
        assert_eq!((alone.spec().context_dim, alone.spec().dim), (0, 4));
        let draws = many(&with, 300, &observation, 9);
        let same = many(&alone, 300, &[], 9);
        for (a, b) in draws.log_prob.iter().zip(&same.log_prob) {
            assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} {b}");
        }
        let mut executor = engine().flow(alone.spec()).unwrap();
        let log_q = alone.log_prob(&mut executor, &draws.theta, &[]).unwrap();
        let mut executor = engine().flow(with.spec()).unwrap();
        let repeated: Vec<f64> = (0..300).flat_map(|_| observation).collect();
        let expected = with.log_prob(&mut executor, &draws.theta, &repeated).unwrap();
        let error = log_q.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(error < 0.01, "{coupling:?}: log q off by {error}");
        let other = with.given(&[-1.7, 0.4]).unwrap();
        assert_ne!(many(&other, 300, &[], 9).log_prob, same.log_prob);
        assert!(with.given(&[1.0]).is_err() && with.given(&[1.0, f64::NAN]).is_err());
    }
}

fn many(posterior: &Posterior, n_each: usize, contexts: &[f64], seed: u64) -> Samples {
    many_on(&engine(), posterior, n_each, contexts, seed)
}

fn many_on(engine: &Engine, posterior: &Posterior, n_each: usize, contexts: &[f64], seed: u64) -> Samples {
    let mut executor = engine.flow(posterior.spec()).unwrap();
    let mut all = Samples { theta: Vec::new(), log_prob: Vec::new() };
    let n = posterior.sample_many(&mut executor, n_each, contexts, seed, |mut piece| {
        assert!(piece.log_prob.len() <= PIECE);
        all.theta.append(&mut piece.theta);
        all.log_prob.append(&mut piece.log_prob);
        ControlFlow::Continue(())
    });
    assert_eq!(n.unwrap(), all.log_prob.len());
    all
}

#[test]
fn draws_of_many_contexts_are_those_of_each() {
    for base in [BaseSpec::Gaussian, mixture()] {
        let posterior = posterior(2, base);
        let mut executor = engine().flow(posterior.spec()).unwrap();
        // Pieces end within a context.
        let contexts = [0.5, -1.0, 3.0, 2.0, 0.5, -1.0];
        let n = 30_000;
        let all = many(&posterior, n, &contexts, 11);
        assert_eq!(all.log_prob.len(), 3 * n);
        let one = posterior.sample(&mut executor, n, &contexts[..2], 11).unwrap();
        assert_eq!(one.theta, all.theta[..4 * n]);
        assert_eq!(one.log_prob, all.log_prob[..n]);
        // Draw i of context k does not depend on how many there are, nor on the other contexts.
        let few = many(&posterior, 37, &[9.0, 9.0, 3.0, 2.0], 11);
        assert_eq!(few.theta[4 * 37..], all.theta[4 * n..4 * (n + 37)]);
        // The third context equals the first, its draws are others.
        assert_ne!(all.theta[..4], all.theta[8 * n..8 * n + 4]);
        // The densities are those of the draws, each with its own context.
        let rows: Vec<f64> = (0..3).flat_map(|k| contexts[2 * k..][..2].repeat(n)).collect();
        let log_prob = posterior.log_prob(&mut executor, &all.theta, &rows).unwrap();
        // Draws within rounding of a bound have densities that rounding moves; the bulk has not.
        let far = log_prob.iter().zip(&all.log_prob).filter(|(a, b)| (*a - *b).abs() > 1e-2).count();
        assert!(far < 3 * n / 100, "{far} of {} log densities differ", 3 * n);
    }
}

#[test]
fn contexts_that_do_not_fit_are_refused_and_a_break_ends() {
    let conditional = posterior(2, BaseSpec::Gaussian);
    let mut executor = engine().flow(conditional.spec()).unwrap();
    let error = conditional.sample_many(&mut executor, 3, &[1.0; 3], 0, |_| ControlFlow::Continue(()));
    assert_eq!(error.unwrap_err().to_string(), "contexts is 3 values, expected [n, 2]");
    let error = conditional.sample_many(&mut executor, usize::MAX, &[1.0; 4], 0, |_| ControlFlow::Break(()));
    assert!(error.unwrap_err().to_string().contains("for each of 2 contexts"));
    let stopped = conditional.sample_many(&mut executor, 50_000, &[1.0; 8], 0, |_| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap(), PIECE);
    assert_eq!(many(&conditional, 0, &[1.0; 4], 0).log_prob.len(), 0);
    // Without context there is one context.
    assert_eq!(many(&posterior(0, BaseSpec::Gaussian), 5, &[], 0).log_prob.len(), 5);
}

#[test]
fn no_draw_lies_on_or_outside_a_bound_whatever_the_context() {
    // Inside the training range (location 1, scale 2), and ever farther outside.
    let contexts: Vec<f64> = [0.0, 1.0, 1e2, -1e4, 1e6, -1e9]
        .iter()
        .flat_map(|far| [1.0 + far, 1.0 - 0.3 * far, 1.0 + 0.7 * far])
        .collect();
    // On an adapter, which may be a software one, fewer.
    let engines = [Some((engine(), 100_000)), adapter().map(|engine| (engine, 10_000))];
    for (engine, n) in engines.into_iter().flatten() {
        for coupling in [Coupling::Affine, Coupling::Spline { n_bins: 8, bound: 5.0 }] {
            for base in [BaseSpec::Gaussian, mixture()] {
                let posterior = posterior_of(3, base, coupling);
                let samples = many_on(&engine, &posterior, n, &contexts, 2);
                assert_eq!(samples.log_prob.len(), 6 * n);
                let place = format!("{} {coupling:?}", engine.info());
                for theta in samples.theta.chunks_exact(4) {
                    assert!(theta[0] > -1.0 && theta[0] < 1.0, "{place}: {theta:?}");
                    assert!(theta[1] > 0.0 && theta[1] < 1e-6, "{place}: {theta:?}");
                    assert!(theta[2] > 1e6 && theta[2] < 1e6 + 1.0, "{place}: {theta:?}");
                    assert!(theta[3].is_finite(), "{place}: {theta:?}");
                }
                assert!(samples.log_prob.iter().all(|q| !q.is_nan()), "{place}");
            }
        }
    }
}
