//! Scans of the prior that are too long to keep: what they find that a short one cannot, that their draws are weighted
//! exactly, and that they keep to their budget and survive.

use crate::rounds::{assert_same, cores, settings};
use lwflow_engine::{Engine, WgslProgram, WgslSource};
use lwflow_host::HostError;
use lwflow_host::likelihood::{ClosureLikelihood, Likelihood, WgslLikelihood, WgslParameter};
use lwflow_host::prior::{IndependentPrior, Marginal};
use lwflow_host::rounds::{
    FolderJournal, Identity, Journal, NoJournal, Problem, RoundsEvent, RoundsResult, RoundsSettings,
    StopCause, run,
};
use std::ops::ControlFlow;

const BOX: Marginal = Marginal::Uniform { lower: -8.0, upper: 8.0 };

/// Half of the mass in a normal of sd 1 at -2, half in one of sd 0.2 at 5: the prior hits the latter with a chance of 4e-6.
fn wide_and_narrow(t: &[f64]) -> f64 {
    let normal = |mean: f64, sd: f64| -> f64 {
        let each =
            t.iter().map(|x| -0.5 * ((x - mean) / sd).powi(2) - sd.ln() - 0.5 * std::f64::consts::TAU.ln());
        each.sum()
    };
    let (a, b) = (normal(-2.0, 1.0), normal(5.0, 0.2));
    a.max(b) + (-(a - b).abs()).exp().ln_1p() - 2f64.ln()
}

fn infer(
    likelihood: &mut dyn Likelihood,
    prior: &IndependentPrior,
    rounds: &RoundsSettings,
    journal: &mut dyn Journal,
    watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
) -> Result<RoundsResult, HostError> {
    let names: Vec<String> = (0..likelihood.dim()).map(|j| format!("x{j}")).collect();
    let problem = Problem { labels: names.clone(), names, prior, likelihood, start: None };
    run(&cores(), problem, &settings(40_000), rounds, 3, journal, watch)
}

fn on(_: RoundsEvent<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_mode_that_a_short_scan_misses_is_found_or_the_verdict_is_bad() {
    let prior = IndependentPrior::new(vec![BOX; 4]).unwrap();
    let with_scan = |n_scan| {
        let rounds = RoundsSettings {
            target_ess: 2000.0,
            max_evaluations: n_scan + 60_000,
            n_scan: Some(n_scan),
            ..RoundsSettings::default()
        };
        let mut likelihood = ClosureLikelihood::new(4, wide_and_narrow);
        infer(&mut likelihood, &prior, &rounds, &mut NoJournal, &mut on).unwrap().report
    };
    let log_z = -4.0 * 16f64.ln();
    let deep = with_scan(4_000_000);
    println!("deep: {:?}, {:?}", deep.deep_scan, deep.verdict);
    let figures = deep.deep_scan.unwrap();
    assert_eq!((figures.n_kept, figures.on_device, deep.n_scan), (50_000, false, 4_000_000));
    let coverage = deep.coverage.as_ref().unwrap();
    println!("{:?}", coverage.modes);
    let narrow = coverage.modes.iter().find(|mode| mode.mean[0] > 4.0).expect("the narrow mode was seen");
    assert!(narrow.n_scan > 3 && narrow.mass_all > 0.1, "{narrow:?}");
    if deep.verdict.met {
        let fresh = &deep.fresh.as_ref().unwrap().weights;
        assert!((fresh.log_z - log_z).abs() < 5.0 * fresh.log_z_sd + 1e-3, "{}", fresh.log_z);
        assert!(coverage.prior_mass_limit < 1e-6);
    }
    // A mean over the pool is an integral, the kept draws included.
    let last = deep.rounds.last().unwrap();
    assert!((last.log_z - log_z).abs() < 0.15, "log Z of all points {}, expected {log_z}", last.log_z);
}

/// A normal in two dimensions under a wide prior, in WGSL.
fn in_wgsl(engine: &Engine) -> WgslLikelihood {
    let text = "fn log_likelihood(theta: array<f32, D>) -> f32 {
        return normal_log_pdf(theta[0], 0.0, 0.1) + normal_log_pdf(theta[1], 2.0, 0.2);
    }";
    let source = WgslSource { file: "n.wgsl".into(), text: text.into(), dim: 2, ..Default::default() };
    let parameter = |name: &str| WgslParameter { name: name.into(), offset: 0.0, range: (-4.0, 8.0) };
    let parameters = [parameter("a"), parameter("b")];
    WgslLikelihood::new(engine, &WgslProgram::new(&source).unwrap(), &parameters, Vec::new()).unwrap()
}

fn short_rounds(n_scan: usize, max_evaluations: usize) -> RoundsSettings {
    RoundsSettings {
        target_ess: 1000.0,
        n_round: Some(1000),
        n_scan: Some(n_scan),
        max_evaluations,
        ..RoundsSettings::default()
    }
}

#[test]
fn scans_by_device_cores_and_pieces_agree_and_survive() {
    let prior =
        IndependentPrior::new(vec![Marginal::StudentT { df: 3.0, loc: 0.0, scale: 2.0 }, BOX]).unwrap();
    let mut closure = ClosureLikelihood::new(2, |t: &[f64]| {
        let z = [(t[0] / 0.1), (t[1] - 2.0) / 0.2];
        -0.5 * (z[0] * z[0] + z[1] * z[1]) - (0.1f64 * 0.2 * std::f64::consts::TAU).ln()
    });
    let rounds = short_rounds(400_000, 450_000);
    let pieces = infer(&mut closure, &prior, &rounds, &mut NoJournal, &mut on).unwrap();
    for engine in std::iter::once(cores()).chain(lwflow_tests::engine()) {
        let mut likelihood = in_wgsl(&engine);
        let whole = infer(&mut likelihood, &prior, &rounds, &mut NoJournal, &mut on).unwrap();
        let [a, b] = [&whole, &pieces].map(|result| (result.report.deep_scan.unwrap(), &result.report));
        println!("{}: {:?}", engine.info(), a.0);
        assert!(a.0.on_device && !b.0.on_device);
        assert_eq!((a.0.n, a.0.n_kept), (b.0.n, b.0.n_kept));
        assert!((a.0.threshold.unwrap() - b.0.threshold.unwrap()).abs() < 1e-3);
        let [a, b] = [a.1, b.1].map(|report| report.evidence.scan.unwrap());
        assert!((a.log_z - b.log_z).abs() < 1e-5 && (a.sd / b.sd - 1.0).abs() < 1e-2, "{a:?} {b:?}");

        let identity = Identity::new();
        let folder = tempfile::tempdir().unwrap();
        let mut n_blocks_seen = 0;
        let mut journal = FolderJournal::begin(folder.path(), &identity, 2, 0, true).unwrap();
        let broken = infer(&mut likelihood, &prior, &rounds, &mut journal, &mut |event| {
            let RoundsEvent::Evaluating { total, .. } = event else { return ControlFlow::Continue(()) };
            n_blocks_seen += usize::from(total > 200_000);
            if n_blocks_seen > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        broken.map(|_| ()).unwrap_err();
        let part = journal.deep_scan().unwrap().unwrap();
        assert!(part.n() > 0 && part.n() < 301_000, "{}", part.n());
        drop(journal);
        let mut journal = FolderJournal::resume(folder.path(), &identity, 2, 0).unwrap();
        assert_same(&infer(&mut likelihood, &prior, &rounds, &mut journal, &mut on).unwrap(), &whole);
        drop(journal);
        let mut journal = FolderJournal::resume(folder.path(), &identity, 2, 0).unwrap();
        assert_same(&infer(&mut likelihood, &prior, &rounds, &mut journal, &mut on).unwrap(), &whole);
    }
}

#[test]
fn the_budget_counts_every_draw() {
    let prior = IndependentPrior::new(vec![BOX; 2]).unwrap();
    let mut likelihood = ClosureLikelihood::new(2, |t: &[f64]| -(t[0] * t[0] + t[1] * t[1]));
    let report = infer(&mut likelihood, &prior, &short_rounds(1_000_000, 305_000), &mut NoJournal, &mut on)
        .unwrap()
        .report;
    assert!(report.n_evaluations <= 305_000 && report.n_scan > 290_000, "{report:?}");
    assert!(matches!(report.stop, StopCause::MaxEvaluations | StopCause::TargetEss));
    // No time at all: the scan ends after its first piece.
    let mut rounds = short_rounds(3_000_000, 4_000_000);
    rounds.max_time = Some(1e-3);
    let error = infer(&mut likelihood, &prior, &rounds, &mut NoJournal, &mut on).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("stopped before the first"), "{error}");
}
