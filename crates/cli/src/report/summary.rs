//! What a fit says on stdout: the pairs, the evidence, the training and, where it is known, the distance from the truth.

use super::Run;
use lwflow_host::diagnostics::{ErrorBars, Evaluation, WithError};
use lwflow_host::truncated::TruncatedReport;
use std::fmt::Write;

pub(super) fn summary(
    run: &Run<'_>,
    error_bars: Option<&ErrorBars>,
    evaluation: Option<&Evaluation>,
) -> String {
    let Run { source, report, .. } = run;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "pairs: {} rows, {} weighted, effective sample size {:.0}, largest share {:.3}",
        report.n, report.n_weighted, report.ess, source.weights.largest_share
    );
    if let Some(ess) = source.autocorrelation_ess {
        let _ = writeln!(text, "  with the autocorrelation of the chain: effective sample size {ess:.0}");
    }
    let _ = match (source.evidence.log_z, source.evidence.log_z_sd) {
        (Some(z), Some(sd)) => writeln!(text, "log Z = {} +- {sd:.4} ({})", fixed(z, 4), source.evidence.how),
        (Some(z), None) => writeln!(text, "log Z = {} ({})", fixed(z, 4), source.evidence.how),
        _ => writeln!(text, "log Z: none ({})", source.evidence.how),
    };
    let base = if report.n_components == 0 {
        "Gaussian".into()
    } else {
        format!("mixture of {}", report.n_components)
    };
    let t = &report.training;
    let kept = match t.best_step {
        0 => "the start: no step improved on it".to_owned(),
        step => format!("step {step} of {}", t.steps),
    };
    let _ = writeln!(
        text,
        "fit: base {base}, {} parameters, {} visits, validation loss {} nats on {} points ({kept}), {:.1} s",
        report.n_params,
        t.visits,
        fixed(t.best_validation_loss, 5),
        t.n_validation,
        run.seconds
    );
    // Statistical floor of a fit of P parameters to E effective points: P / (2 E) nats of forward KL.
    let ess = source.autocorrelation_ess.unwrap_or(report.ess);
    let floor = report.n_params as f64 / (2.0 * ess);
    if floor > 0.1 {
        let _ = writeln!(
            text,
            "  few effective points: {} parameters for {ess:.0} of them; more draws or a smaller flow may do better",
            report.n_params
        );
    }
    if let Some(a) = run.amortised {
        let _ = writeln!(
            text,
            "likelihood-weighted: {} likelihood evaluations beside {} simulations",
            a.n_evaluations, a.n_simulations
        );
        for (k, r) in a.rounds.iter().enumerate() {
            let without = if r.n_without > 0 {
                format!(", {} observations without any", r.n_without)
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "  round {}: {:.1} effective of {} parameters for each observation{without}, validation loss {}",
                k + 1,
                r.mean_ess,
                r.n_each,
                fixed(r.validation_loss, 5)
            );
        }
    }
    if let Some(rounds) = run.truncated {
        text.push_str(&truncated(rounds));
    }
    if t.skipped_steps > 0 {
        let _ = writeln!(text, "{} steps were skipped because they were not finite", t.skipped_steps);
    }
    if let Some(mass) = t.flow_mass {
        let n = t.n_flow_mass;
        // The mean of q / r over n draws; at q = p its noise is that of the evidence's weights.
        let noise = ((1.0 / source.weights.ess_fraction - 1.0).max(0.0) / n as f64).sqrt();
        let warning = match mass - 1.0 {
            gap if gap.abs() <= 0.05_f64.max(3.0 * noise) => "",
            gap if gap < 0.0 => "  <- below 1: the flow may hide mass between the points",
            _ => "  <- above 1: the flow is too dense where the draws are",
        };
        let _ =
            writeln!(text, "mass of the flow seen by the {n} draws: {mass:.4} (noise {noise:.3}){warning}");
    }
    if let Some(bars) = error_bars {
        text.push_str(&spread(bars));
    }
    if let Some(e) = evaluation {
        text.push_str(&comparison(e));
    }
    text
}

/// What the replicas say of the errors, a line for each parameter.
fn spread(bars: &ErrorBars) -> String {
    let mut text = format!(
        "error bars from {} replicas on bootstrap weights: log q differs by {} nats at the median draw, by less than {} at 95 %\n",
        bars.n_replicas,
        fixed(bars.log_prob_sd_median, 3),
        fixed(bars.log_prob_sd_q95, 3)
    );
    for p in &bars.parameters {
        let _ = writeln!(text, "  {}: mean {}, sd {}", p.name, plus_minus(p.mean), plus_minus(p.sd));
    }
    text
}

/// Value and error, both to two digits of the error.
pub fn plus_minus(WithError { value, error }: WithError) -> String {
    if !(error > 0.0 && error.is_finite() && value.is_finite()) {
        return format!("{value} +- {error}");
    }
    let decimals = 1 - error.log10().floor() as i32;
    if (0..=12).contains(&decimals) {
        let decimals = decimals as usize;
        return format!("{} +- {error:.decimals$}", fixed(value, decimals));
    }
    format!("{value:.6e} +- {error:.1e}")
}

/// What rounds of simulations for one observation did, a line each.
fn truncated(report: &TruncatedReport) -> String {
    let mut text = format!(
        "truncated rounds: {} simulations; the posterior is that of the one observation alone\n",
        report.n_simulations
    );
    for (k, r) in report.rounds.iter().enumerate() {
        let failed = if r.n_failed > 0 { format!(" ({} of them failed)", r.n_failed) } else { String::new() };
        let error = if k > 0 { format!(" +- {:.1e}", r.prior_mass_sd) } else { String::new() };
        let _ = writeln!(
            text,
            "  round {}: {} simulations{failed} in {:.3e}{error} of the prior's mass, trained on {} in all, validation \
             loss {}, {:.1e} of the flow outside",
            k + 1,
            r.n_simulations,
            r.prior_mass,
            r.n_pairs,
            fixed(r.validation_loss, 5),
            r.leakage
        );
    }
    if report.settled {
        text.push_str("  the region had settled: the last round took all simulations that were left\n");
    }
    text
}

/// A number to so many decimals; what rounds to zero has no sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { text.replace('-', "") } else { text }
}

/// The figures against a known target, one line each, with their standard errors and numbers of draws.
pub(super) fn comparison(e: &Evaluation) -> String {
    let mut text = format!("against the known target {}:\n", e.target);
    if let Some(f) = &e.forward_kl {
        let _ =
            writeln!(text, "  forward KL {} +- {:.5} nats ({} exact draws)", fixed(f.value, 5), f.se, f.n);
    }
    let r = &e.reverse_kl;
    let infinite =
        if r.n_infinite > 0 { format!(", {} of them infinite", r.n_infinite) } else { String::new() };
    let _ =
        writeln!(text, "  reverse KL {} +- {:.5} nats ({} draws{infinite})", fixed(r.value, 5), r.se, r.n);
    let w = &e.importance;
    let _ = writeln!(
        text,
        "  ESS fraction {:.4}, largest weight {:.1e} ({} draws)",
        w.ess_fraction, w.largest_share, w.n
    );
    let truth = fixed(e.log_z.truth, 4);
    let z_score = e.log_z.z_score.map_or_else(|| "-".into(), |z| fixed(z, 1));
    let _ = match e.log_z.error {
        Some(_) => {
            writeln!(text, "  log Z {} +- {:.4}, truth {truth} (z {z_score})", fixed(w.log_z, 4), w.log_z_sd)
        }
        None => {
            writeln!(text, "  log Z unavailable: effective size {:.1} is too small; truth {truth}", w.ess)
        }
    };
    if let Some(s) = &e.sliced_wasserstein2 {
        let _ = writeln!(text, "  sliced W2 {:.4}, exact draws {:.4} ({} draws)", s.value, s.floor, s.n);
    }
    let _ = writeln!(text, "  mode masses off by {:.5} at most ({} draws)", e.modes.error, e.modes.n);
    let _ = writeln!(
        text,
        "  bridge mass {:.2e} +- {:.1e}, exact 1e-4 ({} draws)",
        e.bridge.value, e.bridge.se, e.bridge.n
    );
    text
}

#[cfg(test)]
mod tests {
    use super::fixed;

    #[test]
    fn what_rounds_to_zero_has_no_sign() {
        assert_eq!([fixed(-4e-6, 5), fixed(-6e-6, 5), fixed(-0.0, 1)], ["0.00000", "-0.00001", "0.0"]);
        assert_eq!([fixed(-f64::INFINITY, 2), fixed(-10.0, 0)], ["-inf", "-10"]);
    }
}
