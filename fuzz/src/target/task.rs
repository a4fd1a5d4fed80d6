//! Task files, and the priors they describe.

use std::path::Path;

use lwflow_cli::task::{Task, prior_of};

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(task) = Task::parse(&text, Path::new("folder/TASK.toml")) else { return };
    let Ok(prior) = prior_of(&task) else { return };
    for (marginal, parameter) in prior.marginals().iter().zip(&task.parameters) {
        let support = marginal.support();
        for u in [1e-9, 0.3, 0.5, 1.0 - 1e-9] {
            let x = marginal.quantile(u);
            let inside = support.lower.is_none_or(|l| x > l) && support.upper.is_none_or(|l| x < l);
            assert!(x.is_finite() && inside, "quantile {u} of {marginal:?} ({}) is {x}", parameter.name);
            assert!(marginal.log_density(x) > f64::NEG_INFINITY, "log density of {marginal:?} at {x}");
        }
    }
}
