//! What commands need of a task and a task may not have: a likelihood, a prior of every parameter.
//! Invariant: what is missing is told by its key and what to give.

use super::{Edge, Likelihood, Place, Task, TaskError};
use lwflow_host::outer::EdgeChoice;
use lwflow_host::prior::IndependentPrior;

/// The likelihood of a task that must have one.
///
/// # Errors
/// [`TaskError::Missing`] for a task that only has a simulator.
pub fn likelihood_of(task: &Task) -> Result<&Likelihood, TaskError> {
    task.likelihood.as_ref().ok_or_else(|| TaskError::Missing {
        place: Place { file: task.file.clone(), line: 1 },
        key: "likelihood".into(),
        expected: "there is only a simulator; `lwflow simulate` writes pairs for `likelihood.pairs` of another task",
    })
}

/// The prior of a task whose parameters all have one, in their order, with their periods and edges.
///
/// # Errors
/// [`TaskError::Missing`] naming the first parameter without a prior; [`TaskError::OutOfRange`] for one that makes no
/// sense, which a task that was read does not have.
pub fn prior_of(task: &Task) -> Result<IndependentPrior, TaskError> {
    let place = || Place { file: task.file.clone(), line: 1 };
    if task.parameters.is_empty() {
        let expected = "a section [parameters.NAME] with a prior for every parameter";
        return Err(TaskError::Missing { place: place(), key: "parameters".into(), expected });
    }
    let marginals = task.parameters.iter().map(|parameter| {
        parameter.prior.ok_or_else(|| TaskError::Missing {
            place: place(),
            key: format!("parameters.{}.prior", parameter.name),
            expected: "every parameter needs a prior",
        })
    });
    let marginals = marginals.collect::<Result<Vec<_>, _>>()?;
    let wrong = |error: lwflow_host::HostError| TaskError::OutOfRange {
        place: place(),
        key: "parameters".into(),
        got: error.to_string(),
        expected: "a prior for every parameter".into(),
    };
    let edge = |edge: Edge| match edge {
        Edge::Auto => EdgeChoice::Auto,
        Edge::Soft => EdgeChoice::Soft,
        Edge::Hard => EdgeChoice::Hard,
    };
    let mut prior = IndependentPrior::new(marginals).map_err(wrong)?;
    for (j, parameter) in task.parameters.iter().enumerate() {
        prior = prior.with_edges(j, edge(parameter.lower_edge), edge(parameter.upper_edge));
        if parameter.periodic {
            prior = prior.with_periodic(j).map_err(wrong)?;
        }
    }
    Ok(prior)
}
