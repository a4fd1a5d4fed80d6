//! What a source makes of its files: when the density of the draws is known, labels, blocks, and whose fault an error is.

use super::*;
use std::path::Path;

/// A task in a folder of its own with one file of pairs.
fn pairs_task(csv: &str, sections: &str) -> Result<Source, CommandError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.csv"), csv).unwrap();
    let text = format!("[likelihood]\npairs = \"p.csv\"\n{sections}");
    load(&Task::parse(&text, &folder.path().join("TASK.toml")).unwrap(), 0)
}

fn chain_task(chain: &str, sections: &str) -> Result<Source, CommandError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chains");
    let text = format!("[likelihood]\nchain = \"{chain}\"\n{sections}");
    load(&Task::parse(&text, &folder.join("TASK.toml")).unwrap(), 0)
}

const UNIFORM: &str = "[parameters.a]\nlower = 0\nupper = 2\nprior = \"uniform\"\n";

#[test]
fn the_density_of_the_draws_is_known_only_without_context() {
    let plain = pairs_task("a,log_likelihood\n0.5,-1\n1.5,-2\n", UNIFORM).unwrap();
    assert_eq!(plain.input.log_proposal, Some(vec![-(2f64.ln()); 2]));
    let csv = "a,context_0,log_likelihood\n0.5,0.4,0\n1.5,1.6,0\n";
    assert_eq!(pairs_task(csv, UNIFORM).unwrap().input.log_proposal, None);
    // Joint draws of a proposal weigh by the task's own prior.
    let joint = pairs_task("a,context_0,log_proposal\n0.5,0.4,-1\n1.5,1.6,-2\n", UNIFORM).unwrap();
    assert_eq!(joint.input.log_weights, [1.0 - 2f64.ln(), 2.0 - 2f64.ln()]);
    assert_eq!(joint.input.log_proposal, None);
    let on = format!("{UNIFORM}[training]\ncontrol_variate = true\n");
    assert!(pairs_task("a,log_likelihood\n0.5,-1\n1.5,-2\n", &on).is_ok());
    for (csv, sections, why) in [
        (csv, on.as_str(), "there is context"),
        ("a,log_likelihood\n0.5,-1\n", "[training]\ncontrol_variate = true\n", "is not known"),
    ] {
        let error = pairs_task(csv, sections).unwrap_err().to_string();
        assert!(error.contains("TASK.toml: `training.control_variate` is true"), "{error}");
        assert!(error.contains(why) && !error.contains("p.csv"), "{error}");
    }
}

#[test]
fn an_angle_of_pairs_and_chains_is_one_to_the_fit() {
    let circle = "lower = -1\nupper = 2\nperiodic = true\n";
    let pairs = pairs_task("a,log_likelihood\n0.5,-1\n1.5,-2\n", &format!("[parameters.a]\n{circle}"));
    let chain = chain_task("gd", &format!("format = \"getdist\"\n[parameters.x1]\n{circle}"));
    for source in [pairs, chain] {
        let expected = Support { lower: Some(-1.0), upper: Some(2.0), periodic: true, ..Support::default() };
        assert_eq!(source.unwrap().input.supports, [expected]);
    }
}

#[test]
fn a_chain_brings_labels_blocks_and_its_own_effective_number() {
    let sections = "format = \"getdist\"\n[parameters.x1]\nlabel = \"y\"\n[parameters.x0]\n";
    let source = chain_task("gd", sections).unwrap();
    assert_eq!(source.input.names, ["x1", "x0"]);
    assert_eq!(source.input.labels, ["y", "x_0"]);
    assert!(source.notes.iter().any(|n| n == "not asked for and left out: x2, x3, x4"), "{:?}", source.notes);
    assert_eq!(source.input.blocks.as_ref().map(Vec::len), Some(source.weights.n));
    assert!(source.input.effective.unwrap() < 0.5 * source.weights.ess);
    let nested = chain_task("pc", "format = \"polychord\"\n").unwrap();
    assert!(nested.input.blocks.is_none() && nested.input.effective.is_none());
    assert_eq!(nested.input.labels[3], "x_3");
    for (chain, format) in [("ultranest", "ultranest"), ("multinest/old-", "multinest")] {
        let source =
            chain_task(&format!("../samplers/{chain}"), &format!("format = \"{format}\"\n")).unwrap();
        assert!(source.evidence.log_z.is_some() && source.evidence.how == "nested sampling", "{format}");
    }
}

#[test]
fn the_wrong_format_of_a_chain_is_the_tasks_fault_in_both_directions() {
    for (chain, said, found) in [
        ("pc", "getdist", "polychord"),
        ("gd", "polychord", "getdist"),
        ("../samplers/ultranest", "getdist", "ultranest"),
        ("../samplers/multinest/new-", "ultranest", "multinest"),
    ] {
        let error = chain_task(chain, &format!("format = \"{said}\"\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("`likelihood.format` is \"{said}\"")), "{error}");
        assert!(error.contains("TASK.toml") && error.contains(&format!("\"{found}\"")), "{error}");
    }
}

#[test]
fn any_prior_gives_the_density_of_prior_draws() {
    let prior = "[parameters.a]\nprior = \"exponential\"\nscale = 2\n";
    let draws = pairs_task("a,log_likelihood\n0.5,-1\n1.5,-2\n", prior).unwrap();
    let expected = [0.5, 1.5].map(|a: f64| -a / 2.0 - 2f64.ln());
    let found = draws.input.log_proposal.unwrap();
    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-14), "{found:?}");
    assert_eq!(draws.input.supports[0].lower, Some(0.0));
    // A weight of zero where the prior has no density says that these are no draws from it.
    let outside = pairs_task("a,log_likelihood\n0.5,-1\n-1.5,-inf\n", prior).unwrap();
    assert_eq!(outside.input.log_proposal, None);
    assert!(
        outside.notes.iter().any(|n| n.starts_with("1 rows lie where the prior has no density")),
        "{:?}",
        outside.notes
    );
    // Draws from elsewhere are weighted by it.
    let elsewhere = pairs_task("a,log_likelihood,log_proposal\n0.5,-1,0.25\n1.5,-2,0.25\n", prior).unwrap();
    let expected = [-1.25 - 0.25 - 2f64.ln(), -2.25 - 0.75 - 2f64.ln()];
    assert!(elsewhere.input.log_weights.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-14));
}

#[test]
fn what_is_evaluated_holds_no_points() {
    let text = "[likelihood]\nwgsl = \"a.wgsl\"\n[parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\n";
    let task = Task::parse(text, "TASK.toml".as_ref()).unwrap();
    let error = load(&task, 1).unwrap_err().to_string();
    assert!(error.contains("TASK.toml: `likelihood.wgsl` holds no points"), "{error}");
}
