//! Stopping, going on, wrong input, and posteriors that are shared.
#![allow(clippy::unwrap_used, clippy::panic)]

use lwflow::{
    BatchLikelihood, DeviceChoice, Error, Fit, FlowSettings, IndependentPrior, Marginal, Outcome, Posterior,
    RoundsEvent,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn prior() -> IndependentPrior {
    IndependentPrior::new(vec![Marginal::Uniform { lower: -5.0, upper: 5.0 }; 2]).unwrap()
}

fn log_likelihood(theta: &[f64]) -> f64 {
    -0.5 * theta.iter().map(|t| (t - 1.0).powi(2) / 0.09).sum::<f64>()
}

fn small<'a>() -> Fit<'a> {
    Fit::new(prior())
        .rounds(|rounds| (rounds.target_ess, rounds.max_evaluations) = (1000.0, 30_000))
        .fit(|fit| {
            fit.flow = FlowSettings { n_layers: 2, hidden: vec![8], ..FlowSettings::default() };
            fit.training.max_visits = 20_000;
        })
        .device(DeviceChoice::Cpu)
}

#[test]
fn a_fit_stops_when_asked_and_goes_on_to_the_same_bits() {
    let whole = small().log_likelihood(log_likelihood).run().unwrap();
    assert!(!whole.interrupted() && whole.verdict().met, "{:?}", whole.verdict());
    let folder = tempfile::tempdir().unwrap();
    let counted = AtomicUsize::new(0);
    let run = |stop_after: usize| -> Result<Outcome, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        let up = flag.clone();
        small()
            .log_likelihood(|theta| {
                counted.fetch_add(1, Ordering::Relaxed);
                log_likelihood(theta)
            })
            .journal(folder.path())
            .cancel(flag)
            .on_progress(move |event| {
                if matches!(event, RoundsEvent::Round(row) if row.round >= stop_after) {
                    up.store(true, Ordering::Relaxed);
                }
                ControlFlow::Continue(())
            })
            .run()
    };
    let part = run(1).unwrap();
    assert!(part.interrupted() && !part.verdict().met);
    assert_eq!(part.posterior.sample(10, 1).unwrap().theta.len(), 20);
    let first = counted.swap(0, Ordering::Relaxed);
    let resumed = run(usize::MAX).unwrap();
    assert_eq!(resumed.result.theta, whole.result.theta);
    assert_eq!(resumed.posterior.evidence(), whole.posterior.evidence());
    assert!(first > 0 && counted.load(Ordering::Relaxed) < whole.result.report.n_evaluations);
    // Another seed is another run.
    let other = small().log_likelihood(log_likelihood).seed(3).journal(folder.path()).run();
    assert!(other.unwrap_err().to_string().contains("seed 0, now it is 3"));
}

#[test]
fn stopped_before_the_first_flow_there_is_no_outcome() {
    let result = small().log_likelihood(log_likelihood).on_progress(|_| ControlFlow::Break(())).run();
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
}

#[test]
fn what_is_wrong_is_named() {
    let text = |fit: Fit<'_>| fit.run().unwrap_err().to_string();
    assert!(text(small()).starts_with("fit: no likelihood"));
    let error = text(small().log_likelihood(|t| if t[0] > 4.0 { f64::NAN } else { 0.0 }));
    assert!(error.contains("log_likelihood: value NaN at row") && error.contains("theta = [4."), "{error}");
    assert!(text(small().names(["a"]).log_likelihood(|_| 0.0)).contains("names: length 1, expected 2"));
    assert!(text(small().names(["a", "a"]).log_likelihood(|_| 0.0)).contains("\"a\" twice"));
    let short = BatchLikelihood::new(2, "short", |theta| Ok(vec![0.0; theta.len() / 2 - 1]));
    assert!(text(small().likelihood(short)).contains("values for"));
    let failing = BatchLikelihood::new(2, "mine", |_| Err("no such star".into()));
    assert_eq!(text(small().likelihood(failing)), "mine: no such star");
    let error = Fit::weighted(vec![0.0; 7], &[1.0; 3]).run().unwrap_err().to_string();
    assert_eq!(error, "theta: length 7, expected [n, D] for the 3 weights");
}

#[test]
fn a_posterior_is_shared_saved_and_a_map_of_the_cube() {
    let outcome = small().log_likelihood(log_likelihood).run().unwrap();
    let posterior = &outcome.posterior;
    let alone = posterior.sample(500, 4).unwrap();
    std::thread::scope(|scope| {
        let each: Vec<_> = (0..3).map(|_| scope.spawn(|| posterior.sample(500, 4).unwrap().theta)).collect();
        each.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), alone.theta));
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    posterior.save(&path).unwrap();
    let loaded = Posterior::load(&path, &DeviceChoice::Cpu).unwrap();
    assert_eq!(loaded.evidence(), posterior.evidence());
    assert!(loaded.evidence().is_some());
    assert_eq!(loaded.sample(500, 4).unwrap().log_prob, alone.log_prob);
    let theta = loaded.prior_transform(&[0.5, 0.5, 0.0, 1.0]).unwrap();
    assert!((theta[0] - 1.0).abs() < 0.1 && theta.iter().all(|t| t.abs() < 5.0), "{theta:?}");
    let error = loaded.prior_transform(&[0.5, 1.5]).unwrap_err().to_string();
    assert_eq!(error, "u: value 1.5 at row 0, column 1, expected 0 to 1");
    // What is drawn equally weighted is the posterior's own.
    let rows = outcome.equal_weight(1000, 1);
    let mean = rows.iter().map(|&i| outcome.result.theta[2 * i]).sum::<f64>() / rows.len() as f64;
    assert!(rows.len() > 500 && (mean - 1.0).abs() < 5.0 * 0.3 / (rows.len() as f64).sqrt(), "{mean}");
}

#[test]
fn a_conditional_posterior_is_asked_about_observations() {
    // theta ~ N(0, 1), x = theta + N(0, 1): the posterior is N(x / 2, 1 / 2).
    let normal = |i: usize, offset: f64| {
        let u = |k: f64| (0.5 + k * i as f64 + offset).fract().clamp(1e-9, 1.0 - 1e-9);
        (-2.0 * u(0.754_877_666).ln()).sqrt() * (std::f64::consts::TAU * u(0.569_840_291)).cos()
    };
    let n = 8000;
    let theta: Vec<f64> = (0..n).map(|i| normal(i, 0.0)).collect();
    let noise = |i: usize| normal(i * 7919 % n, 0.37);
    let context: Vec<f64> = theta.iter().enumerate().map(|(i, t)| t + noise(i)).collect();
    let fit = |context: Vec<f64>| {
        Fit::weighted(theta.clone(), &vec![1.0; n]).context(context).device(DeviceChoice::Cpu).fit(|fit| {
            fit.flow = FlowSettings { n_layers: 2, hidden: vec![16], ..fit.flow.clone() };
            (fit.training.max_visits, fit.activations) = (150_000, Vec::new());
        })
    };
    let posterior = fit(context).run().unwrap().posterior;
    assert_eq!((posterior.dim(), posterior.context_dim()), (1, 1));
    let contexts = [-1.0, 1.2];
    let drawn = posterior.sample_given(4000, &contexts, 3).unwrap();
    for (k, x) in contexts.iter().enumerate() {
        let own = &drawn.theta[4000 * k..4000 * (k + 1)];
        let mean = own.iter().sum::<f64>() / 4000.0;
        let sd = (own.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 4000.0).sqrt();
        assert!((mean - x / 2.0).abs() < 0.1 && (sd - 0.707).abs() < 0.07, "{mean} +- {sd} given {x}");
        // The posterior of one observation alone is the same density.
        let alone = posterior.given(&[*x]).unwrap();
        let both = alone.log_prob(&own[..50]).unwrap();
        let given = posterior.log_prob_given(&own[..50], &[*x; 50]).unwrap();
        assert!(both.iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-3), "{both:?} {given:?}");
        assert_eq!(alone.prior_transform(&[0.5]).unwrap().len(), 1);
    }
    let novelty = posterior.novelty(&[0.0, 90.0]).unwrap().unwrap();
    assert!(!novelty[0].is_novel() && novelty[1].is_novel());
    // Without an observation it is no density, and it is told what is wrong with one.
    let without = "context is none, expected 1 values for each observation: the posterior is conditional";
    assert_eq!(posterior.sample(5, 1).unwrap_err().to_string(), without);
    assert_eq!(posterior.log_prob(&[0.0]).unwrap_err().to_string(), without);
    assert_eq!(posterior.prior_transform(&[0.5]).unwrap_err().to_string(), without);
    let text = |result: Result<Vec<f64>, Error>| result.unwrap_err().to_string();
    assert_eq!(text(posterior.log_prob_given(&[0.0, 1.0], &[1.0])), "context is 1 values, expected [2, 1]");
    assert!(text(posterior.log_prob_given(&[0.0], &[f64::NAN])).contains("context: value NaN at row 0"));
    let plain = posterior.given(&[0.0]).unwrap();
    assert!(text(plain.log_prob_given(&[0.0], &[1.0])).contains("the posterior is not conditional"));
    let short = fit(vec![0.0; n - 1]).run().unwrap_err().to_string();
    assert_eq!(short, "context: length 7999, expected [n, C] for the 8000 weights, C > 0");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    posterior.save(&path).unwrap();
    let loaded = Posterior::load(&path, &DeviceChoice::Cpu).unwrap();
    assert_eq!(loaded.sample_given(4000, &contexts, 3).unwrap().theta, drawn.theta);
}

#[test]
fn the_defaults_that_python_names_are_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../python/python/lwflow/__init__.py");
    let text = std::fs::read_to_string(path).unwrap();
    let (rounds, fit) = (lwflow::RoundsSettings::default(), lwflow::FitSettings::default());
    let lwflow::BaseSettings::Mixture { components: lwflow::Components::Auto { max }, .. } = fit.base else {
        panic!("{:?}", fit.base)
    };
    let million = |n: usize| format!("{},000,000", n / 1_000_000);
    let hidden = fit.flow.hidden.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for words in [
        format!("95 % lower bound ({})", rounds.target_ess),
        format!("bound counts ({})", rounds.max_k_hat),
        format!("evaluations ({})", million(rounds.max_evaluations)),
        format!("Coupling layers ({}), hidden widths of each ({hidden})", fit.flow.n_layers),
        format!("by BIC, up to {max}"),
        format!("points per step ({})", fit.training.batch_size),
        format!("points visited ({})", million(fit.training.max_visits)),
        format!("largest rate ({})", fit.training.learning_rate),
    ] {
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(&words), "{words}");
    }
    assert!(rounds.max_log_z_sd.is_none() && rounds.max_time.is_none());
}
