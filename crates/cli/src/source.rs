//! Turns the likelihood source of a task into weighted pairs: draws of a known target, a pairs file, or chains.
//! It decides nothing about the fit; what it assumed on the way is said in `notes`.

use crate::exit::{CommandError, Status};
use crate::progress::Bar;
use crate::simulation::Simulation;
use crate::task::{
    ChainFormat, ControlVariate, Edge, Likelihood, ParameterSection, Task, likelihood_of, prior_of,
};
use crate::wgsl_file::of;
use lwflow_host::files::{
    ChainFormat as FileFormat, ChainSettings, ColumnChoice, Evidence, WeightKind, WeightedPairs,
    chain_format, read_chains, read_pairs,
};
use lwflow_host::fit::FitInput;
use lwflow_host::outer::{EdgeChoice, Support};
use lwflow_host::prior::{IndependentPrior, Marginal};
use lwflow_host::rng::sobol_blocks;
use lwflow_host::simulator::Simulated;
use lwflow_host::targets::Target;
use lwflow_host::weights::{self, WeightReport};
use serde::Serialize;

/// Why the pairs of many observations give none.
pub const NO_EVIDENCE_WITH_CONTEXT: &str = "with context there is no single evidence";

/// Evidence of the pairs, as their own weights give it.
#[derive(Debug, Clone, Serialize)]
pub struct PairsEvidence {
    /// log Z in nats; `None` where the weights do not give one.
    pub log_z: Option<f64>,
    /// Standard error of log Z.
    pub log_z_sd: Option<f64>,
    /// Why there is none, or how it was found.
    pub how: &'static str,
}

/// Weighted pairs and where they come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The pairs.
    pub input: FitInput,
    /// The target, where it is known.
    pub target: Option<Target>,
    /// Evidence.
    pub evidence: PairsEvidence,
    /// What the weights are worth.
    pub weights: WeightReport,
    /// Effective sample size of a Markov chain, which Kish's alone overstates: the least of its parameters.
    pub autocorrelation_ess: Option<f64>,
    /// Remarks for people.
    pub notes: Vec<String>,
}

/// Draws `n` points from the prior of `target` by scrambled Sobol points and weights them by its likelihood.
///
/// # Errors
/// [`CommandError`] if a likelihood is not legal.
pub fn draw_target(target: Target, n: usize, seed: u64) -> Result<Source, CommandError> {
    let d = target.dim();
    let points = sobol_blocks(seed, n, d);
    let mut theta = Vec::with_capacity(n * d);
    for u in points.points.chunks_exact(d) {
        theta.extend(target.prior_sample(u));
    }
    let log_weights: Vec<f64> = theta.chunks_exact(d).map(|t| target.log_likelihood(t)).collect();
    let log_proposal = theta.chunks_exact(d).map(|t| target.log_prior(t)).collect();
    let supports = target
        .supports()
        .into_iter()
        .map(|(lower, upper)| Support { lower, upper, ..Support::default() })
        .collect();
    let report = weights::weight_report(&log_weights, Some(&points.blocks), &theta)?;
    let sd = Some(report.log_z_sd).filter(|sd| report.log_z_available && sd.is_finite());
    let evidence = PairsEvidence {
        log_z: report.log_z_available.then_some(report.log_z),
        log_z_sd: sd,
        how: match (report.log_z_available, sd) {
            (false, _) => "effective sample size below 100: unavailable",
            (true, None) => {
                "mean weight of the prior draws; too few independent scramblings for a standard error"
            }
            (true, Some(_)) => "mean weight of the prior draws; standard error from independent scramblings",
        },
    };
    let input = FitInput {
        names: target.parameter_names(),
        labels: target.parameter_labels(),
        supports,
        theta,
        context: Vec::new(),
        log_weights,
        log_proposal: Some(log_proposal),
        blocks: Some(points.blocks),
        effective: None,
    };
    let notes = vec![format!("{n} prior draws of {} (scrambled Sobol points)", target.name())];
    Ok(Source { input, target: Some(target), evidence, weights: report, autocorrelation_ess: None, notes })
}

/// Simulates pairs (theta, x) with theta from the prior, x the context, weight one each. Where the user asks to stop, those
/// that are there; failed simulations are left out.
///
/// # Errors
/// [`CommandError`] naming the simulation that went wrong, or if none succeeded.
pub fn draw_simulations(
    task: &Task,
    mut simulation: Simulation,
    n: usize,
    seed: u64,
    bar: &Bar,
) -> Result<Source, CommandError> {
    let Simulation { names, labels, prior, simulator, .. } = &mut simulation;
    let simulated = Simulated::from_prior(&mut **simulator, &**prior, n, seed, |done| bar.update(done, n));
    let simulated = simulated.map_err(|error| of(&task.file, error))?;
    let (done, succeeded) = (simulated.done, simulated.rows.len());
    if succeeded == 0 {
        let message = format!("{}: none of {done} simulations succeeded", task.file.display());
        return Err(CommandError::new(Status::Input, message));
    }
    let mut notes =
        vec![format!("{done} simulations with parameters from the prior (scrambled Sobol points)")];
    if succeeded < done {
        notes.push(format!("{} of them failed (NaN alone) and are left out", done - succeeded));
    }
    let input = simulated.into_input(names, labels, &**prior);
    let weights = weights::weight_report(&input.log_weights, None, &input.theta)?;
    let evidence = PairsEvidence { log_z: None, log_z_sd: None, how: NO_EVIDENCE_WITH_CONTEXT };
    Ok(Source { input, target: None, evidence, weights, autocorrelation_ess: None, notes })
}

/// Loads what the task names.
///
/// # Errors
/// [`CommandError`] naming file, row and field of what is wrong.
pub fn load(task: &Task, seed: u64) -> Result<Source, CommandError> {
    let source = load_any(task, seed)?;
    if task.context_network().is_some() && source.input.context.is_empty() {
        let message = "[context_network] makes features of the context, and the pairs have none";
        return Err(CommandError::new(Status::Input, format!("{}: {message}", task.file.display())));
    }
    if task.training.control_variate == ControlVariate::On && source.input.log_proposal.is_none() {
        let why = if source.input.context.is_empty() {
            "the density of the draws is not known"
        } else {
            "there is context, which may depend on the parameters"
        };
        let message = format!(
            "{}: `training.control_variate` is true, expected false or \"auto\": {why}",
            task.file.display()
        );
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(source)
}

fn load_any(task: &Task, seed: u64) -> Result<Source, CommandError> {
    let wanted = || {
        (!task.parameters.is_empty())
            .then(|| task.parameters.iter().map(|p| p.name.clone()).collect::<Vec<String>>())
    };
    let likelihood = likelihood_of(task)?;
    match likelihood {
        Likelihood::Target { name, n_draws } => {
            let target = *name;
            let mut source = draw_target(target, *n_draws, seed)?;
            for section in &task.parameters {
                let Some(j) = source.input.names.iter().position(|n| *n == section.name) else {
                    return Err(unknown_parameter(task, &section.name, &source.input.names));
                };
                let mut support = support(section);
                support.lower = support.lower.or(source.input.supports[j].lower);
                support.upper = support.upper.or(source.input.supports[j].upper);
                source.input.supports[j] = support;
                if let Some(label) = &section.label {
                    source.input.labels[j].clone_from(label);
                }
            }
            Ok(source)
        }
        Likelihood::Pairs { path } => {
            let choice = ColumnChoice { parameters: wanted(), context: None };
            let prior = prior_of(task).ok();
            let log_prior = prior.as_ref().map(|prior| move |theta: &[f64]| log_prior(prior, theta));
            let log_prior = log_prior.as_ref().map(|f| f as &dyn Fn(&[f64]) -> f64);
            let mut pairs = read_pairs(path, &choice, log_prior)?;
            let log_proposal = match (pairs.kind, &pairs.log_proposal, log_prior) {
                // Where the context depends on theta, the density of theta alone is not that of the draws.
                _ if pairs.context_dim > 0 => None,
                (WeightKind::PriorDraws, _, Some(log_prior)) => {
                    let values: Vec<f64> = pairs.theta.chunks_exact(pairs.dim).map(log_prior).collect();
                    let n_outside = values.iter().filter(|v| !v.is_finite()).count();
                    if n_outside > 0 {
                        let note = format!(
                            "{n_outside} rows lie where the prior has no density, so the density of the draws is not known"
                        );
                        pairs.notes.push(note);
                    }
                    (n_outside == 0).then_some(values)
                }
                (WeightKind::ProposalDraws, Some(lr), _) => Some(lr.clone()),
                _ => None,
            };
            let from_weights = pairs.evidence == Evidence::FromWeights;
            let mut source = from_pairs(task, pairs, log_proposal)?;
            count_points_once(&mut source, from_weights)?;
            Ok(source)
        }
        Likelihood::Chain { root, format, burn_in } => {
            // Before the files are read: what else is wrong with them follows from the wrong format.
            let found = format_of(chain_format(root)?);
            if found != *format {
                let message = format!(
                    "{}: `likelihood.format` is \"{}\", but the files of {} are those of \"{}\"",
                    task.file.display(),
                    format.word(),
                    root.display(),
                    found.word()
                );
                return Err(CommandError::new(Status::Input, message));
            }
            let samples = read_chains(root, &ChainSettings { parameters: wanted(), burn_in: *burn_in })?;
            let mut source = from_pairs(task, samples.pairs, None)?;
            source.autocorrelation_ess = samples.report.autocorrelation_ess;
            source.input.effective = samples.report.autocorrelation_ess;
            source.input.blocks = samples.blocks;
            Ok(source)
        }
        Likelihood::Wgsl { .. } | Likelihood::Command { .. } => {
            let message = format!(
                "{}: `likelihood.{}` holds no points; it is evaluated in rounds",
                task.file.display(),
                likelihood.key()
            );
            Err(CommandError::new(Status::Other, message))
        }
    }
}

/// Makes repeated rows worth no more than the points that they repeat, on one side of the split for validation.
fn count_points_once(source: &mut Source, from_weights: bool) -> Result<(), CommandError> {
    let input = &mut source.input;
    let (n, d) = (input.log_weights.len(), input.names.len());
    let c = input.context.len() / n.max(1);
    let rows: Vec<f64> = (0..n)
        .flat_map(|i| [&input.theta[i * d..][..d], &input.context[i * c..][..c]])
        .flatten()
        .copied()
        .collect();
    let Some(found) = weights::repeats(&rows, d + c, &input.log_weights)? else { return Ok(()) };
    let (points, ess) = (found.n_distinct as f64, found.effective);
    let (repeated, distinct) = (n - found.n_distinct, found.n_distinct);
    source.notes.push(format!(
        "{repeated} of {n} rows repeat an earlier point; counted once, the {distinct} points are worth {ess:.0} effective ones"
    ));
    if from_weights && ess < weights::MIN_EVIDENCE_ESS {
        let how = "fewer than 100 effective points that are not repeated: unavailable";
        source.evidence = PairsEvidence { log_z: None, log_z_sd: None, how };
    } else if from_weights {
        source.evidence.log_z_sd = Some(((points / ess - 1.0).max(0.0) / points).sqrt());
    }
    input.effective = Some(ess);
    input.blocks = Some(found.points);
    Ok(())
}

/// The format of a task that reads these files.
pub fn format_of(found: FileFormat) -> ChainFormat {
    match found {
        FileFormat::GetDist => ChainFormat::Getdist,
        FileFormat::DeadBirth => ChainFormat::Polychord,
        FileFormat::MultiNest => ChainFormat::Multinest,
        FileFormat::UltraNest => ChainFormat::Ultranest,
    }
}

fn unknown_parameter(task: &Task, name: &str, known: &[String]) -> CommandError {
    let message = format!(
        "{}: [parameters.{name}]: no such parameter; the source has {}",
        task.file.display(),
        known.join(", ")
    );
    CommandError::new(Status::Input, message)
}

fn support(section: &ParameterSection) -> Support {
    let edge = |edge: Edge| match edge {
        Edge::Auto => EdgeChoice::Auto,
        Edge::Soft => EdgeChoice::Soft,
        Edge::Hard => EdgeChoice::Hard,
    };
    Support {
        lower: section.lower,
        upper: section.upper,
        periodic: section.periodic,
        lower_edge: edge(section.lower_edge),
        upper_edge: edge(section.upper_edge),
    }
}

/// Log density of the prior of pairs. A uniform one is constant everywhere: points on or outside a bound are the outer
/// transform's to refuse, with their row.
fn log_prior(prior: &IndependentPrior, theta: &[f64]) -> f64 {
    let terms = prior.marginals().iter().zip(theta).map(|(marginal, x)| match marginal {
        Marginal::Uniform { lower, upper } => -(upper - lower).ln(),
        other => other.log_density(*x),
    });
    terms.sum()
}

/// A source from pairs that were read; `log_proposal` is the normalised density of the draws, where it is known.
///
/// # Errors
/// [`CommandError`] naming a parameter of the task that the pairs do not have.
pub fn from_pairs(
    task: &Task,
    pairs: WeightedPairs,
    log_proposal: Option<Vec<f64>>,
) -> Result<Source, CommandError> {
    let report = weights::weight_report(&pairs.log_weights, None, &pairs.theta)?;
    let log_z = pairs.log_z();
    let how = match pairs.evidence {
        Evidence::Unavailable if pairs.context_dim > 0 => NO_EVIDENCE_WITH_CONTEXT,
        Evidence::Unavailable => "the weights have an unknown common factor, so there is no evidence",
        Evidence::Known(_) => "nested sampling",
        _ => "mean weight of the draws",
    };
    // An importance estimate from few effective points is no estimate; nested sampling has its own error.
    let usable = matches!(pairs.evidence, Evidence::Known(_)) || report.log_z_available;
    let evidence = PairsEvidence {
        log_z: log_z.filter(|_| usable).map(|z| z.log_z),
        log_z_sd: log_z.filter(|_| usable).map(|z| z.sd),
        how: if log_z.is_some() && !usable { "effective sample size below 100: unavailable" } else { how },
    };
    let mut supports = vec![Support::default(); pairs.dim];
    let mut labels = pairs.labels;
    for section in &task.parameters {
        let Some(j) = pairs.names.iter().position(|n| *n == section.name) else {
            return Err(unknown_parameter(task, &section.name, &pairs.names));
        };
        supports[j] = support(section);
        if let Some(label) = &section.label {
            labels[j].clone_from(label);
        }
    }
    let input = FitInput {
        names: pairs.names,
        labels,
        supports,
        theta: pairs.theta,
        context: pairs.context,
        log_weights: pairs.log_weights,
        log_proposal,
        blocks: None,
        effective: None,
    };
    let notes = pairs.notes;
    Ok(Source { input, target: None, evidence, weights: report, autocorrelation_ess: None, notes })
}

#[cfg(test)]
mod tests;
