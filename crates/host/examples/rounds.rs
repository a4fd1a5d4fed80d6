//! Runs rounds on a known target and prints every round: `cargo run -p lwflow-host --example rounds -- rosenbrock10 50000`.
#![allow(clippy::print_stdout, reason = "printing is what the example is for")]

use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::fit::{BaseSettings, Components, FitSettings};
use lwflow_host::likelihood::ClosureLikelihood;
use lwflow_host::outer::Support;
use lwflow_host::prior::Prior;
use lwflow_host::rounds::{NoJournal, Problem, RoundsEvent, RoundsSettings, run};
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_model::{Covariance, FlowSettings};
use std::ops::ControlFlow;

#[derive(Debug)]
struct TargetPrior(Target);

impl Prior for TargetPrior {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn supports(&self) -> Vec<Support> {
        let supports = self.0.supports().into_iter();
        supports.map(|(lower, upper)| Support { lower, upper, ..Support::default() }).collect()
    }
    fn prior_transform(&self, u: &[f64], theta: &mut [f64]) {
        theta.copy_from_slice(&self.0.prior_sample(u));
    }
    fn log_prior(&self, theta: &[f64]) -> f64 {
        self.0.log_prior(theta)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target: Target = args.next().unwrap_or_else(|| "rosenbrock10".into()).parse()?;
    let max_evaluations = args.next().unwrap_or_else(|| "50000".into()).parse()?;
    let seed: u64 = args.next().unwrap_or_else(|| "0".into()).parse()?;
    let opt = |name: &str, default: f64| -> f64 {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() })?;
    let width = opt("H", 32.0) as usize;
    let fit = FitSettings {
        flow: FlowSettings {
            n_layers: opt("L", 8.0) as usize,
            hidden: vec![width, width],
            ..FlowSettings::default()
        },
        base: match opt("K", 12.0) as usize {
            0 => BaseSettings::Gaussian,
            k => BaseSettings::Mixture {
                components: if opt("FIX", 0.0) > 0.0 {
                    Components::Fixed(k)
                } else {
                    Components::Auto { max: k }
                },
                covariance: Covariance::Full,
                trainable: true,
            },
        },
        training: TrainSettings {
            max_visits: opt("V", 1e6) as usize,
            batch_size: opt("B", 512.0) as usize,
            learning_rate: opt("LR", 5e-3),
            uniform_share: opt("U", 0.2),
            control_start: opt("CS", 0.7),
            ..TrainSettings::default()
        },
    };
    let settings = RoundsSettings {
        max_evaluations,
        target_ess: opt("ESS", 4000.0),
        n_round: std::env::var("N").ok().and_then(|v| v.parse().ok()),
        n_scan: std::env::var("SCAN").ok().and_then(|v| v.parse().ok()),
        prior_share: opt("PS", 0.02),
        ..RoundsSettings::default()
    };
    let prior = TargetPrior(target);
    let mut likelihood =
        ClosureLikelihood::new(target.dim(), move |theta: &[f64]| target.log_likelihood(theta));
    let problem = Problem {
        names: target.parameter_names(),
        labels: target.parameter_labels(),
        prior: &prior,
        likelihood: &mut likelihood,
    };
    let result = run(&engine, problem, &fit, &settings, seed, &mut NoJournal, &mut |event| {
        if let RoundsEvent::Round(r) = event {
            println!(
                "{:2} beta {:.2e} n {:6} pooled {:6.0} K {:2} visits {:7} fresh {:5.0}/{:5} = {:.3} log_z {:9.4} pESS {:6.0} s {:.1} + {:.1}",
                r.round,
                r.beta,
                r.n_evaluations,
                r.pooled_ess,
                r.n_components,
                r.visits,
                r.fresh_ess,
                r.n_fresh,
                r.fresh_ess / r.n_fresh as f64,
                r.log_z,
                r.posterior_ess,
                r.seconds.0,
                r.seconds.1
            );
        }
        ControlFlow::Continue(())
    })?;
    let r = &result.report;
    println!(
        "{:?} after {} evaluations, {:.1} s; truth {:.4}",
        r.stop,
        r.n_evaluations,
        r.seconds,
        target.log_z()
    );
    if let Some(f) = &r.fresh {
        println!(
            "fresh: n {} ess {:?} k {:?} log_z {:.4} +- {:.4} (error {:+.4})",
            f.weights.n,
            f.ess,
            f.weights.k_hat.value,
            f.weights.log_z,
            f.weights.log_z_sd,
            f.weights.log_z - target.log_z()
        );
    }
    println!("{:?}\n{:#?}", r.evidence, r.verdict);
    if let Some(c) = &r.coverage {
        println!(
            "lacking {:.4} ({}), bridges {:.5}, {} modes",
            c.lacking_mass, c.n_lacking, c.bridge_mass, c.n_modes
        );
        for m in c.modes.iter().take(8) {
            println!(
                "  all {:.4} weighted {:.4} flow {:.4} scan {:?} hits {}",
                m.mass_all, m.mass_weighted, m.mass_flow, m.mass_scan, m.n_scan
            );
        }
    }
    println!("{:?}", r.audit);
    Ok(())
}
