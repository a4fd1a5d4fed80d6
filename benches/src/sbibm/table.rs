//! The table of a bench: a line for each task, ours beside the published one, and the means.
//! Invariant: a mean over tasks is over the same tasks on both sides.

use super::{Figure, Method, Published, Setup, TASKS, bound_of_exact};
use anyhow::Context as _;

/// The lines of the table of figures of one method, number of simulations and seed.
pub fn table(figures: &[Figure], published: &Published) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<24} {:>10} {:>8} {:>12} {:>7} {:>7} {:>7} {:>11} {:>10} {:>10}",
        "task",
        "method",
        "sims",
        "observations",
        "C2ST",
        "worst",
        "NPE",
        "evaluations",
        "minutes",
        "NPE min."
    )];
    let mut tasks: Vec<&str> = Vec::new();
    for figure in figures {
        if !tasks.contains(&figure.setup.task.as_str()) {
            tasks.push(&figure.setup.task);
        }
    }
    let mut both = Vec::new();
    for task in tasks {
        let rows: Vec<&Figure> = figures.iter().filter(|f| f.setup.task == task).collect();
        let Some(first) = rows.first() else { continue };
        let observations: Vec<usize> = rows.iter().map(|r| r.observation).collect();
        let n = rows.len() as f64;
        let mean = rows.iter().map(|r| r.c2st).sum::<f64>() / n;
        let worst = rows.iter().map(|r| r.c2st).fold(0.0, f64::max);
        let simulations = first.setup.simulations;
        let rounds = first.setup.method == Method::Rounds;
        let evaluations = rows.iter().map(|r| r.evaluations as f64).sum::<f64>() / n;
        let theirs = if rounds { None } else { published.c2st(task, simulations, &observations) };
        let minutes = rows.iter().map(|r| r.seconds_train).sum::<f64>() / n / 60.0;
        let their_minutes = if rounds { None } else { published.minutes(task, simulations, &observations) };
        let method = format!("{}{}", first.setup.method.word(), if first.setup.refine { "+" } else { "" });
        let listed: Vec<String> = observations.iter().map(usize::to_string).collect();
        let missed = (rounds || first.setup.refine) && mean > bound_of_exact(task);
        lines.push(format!(
            "{task:<24} {method:>10} {:>8} {:>12} {mean:>7.4} {worst:>7.4} {:>7} {:>11} {minutes:>10.2} {:>10}{}",
            if rounds { "-".to_owned() } else { simulations.to_string() },
            listed.join(","),
            optional(theirs, 3),
            if evaluations > 0.0 { format!("{evaluations:.0}") } else { "-".to_owned() },
            optional(their_minutes, 2),
            if missed { "  MISSED" } else { "" }
        ));
        both.push((mean, theirs));
    }
    if both.len() > 1 {
        let n = both.len() as f64;
        let ours = both.iter().map(|(mean, _)| mean).sum::<f64>() / n;
        let theirs: Option<Vec<f64>> = both.iter().map(|(_, theirs)| *theirs).collect();
        let theirs = theirs.map(|v| v.iter().sum::<f64>() / n);
        lines.push(format!(
            "{:<24} {:>10} {:>8} {:>12} {ours:>7.4} {:>7} {:>7}",
            format!("mean of {}", both.len()),
            "",
            "",
            "",
            "",
            optional(theirs, 3)
        ));
    }
    lines
}

/// The tables of rows that runs have left, one for each method, number of simulations and seed, the tasks in their usual order. Rows
/// that differ in fold seeds alone are one: a training of the same seed has the same draws.
///
/// # Errors
/// If a line of `text` is no row.
pub fn tables(text: &str, published: &Published) -> anyhow::Result<Vec<String>> {
    let mut groups: Vec<Vec<Figure>> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let figure: Figure = serde_json::from_str(line).with_context(|| format!("row {}", i + 1))?;
        let same = |f: &&mut Figure| {
            let seeds = &figure.setup.fold_seeds;
            let setup = Setup { fold_seeds: seeds.clone(), ..f.setup.clone() };
            let anew = f.setup.fold_seeds.iter().all(|seed| !seeds.contains(seed));
            f.observation == figure.observation && setup == figure.setup && anew
        };
        if let Some(earlier) = groups.iter_mut().flatten().find(same) {
            earlier.setup.fold_seeds.extend(&figure.setup.fold_seeds);
            earlier.c2st_of_seeds.extend(&figure.c2st_of_seeds);
            earlier.c2st = earlier.c2st_of_seeds.iter().sum::<f64>() / earlier.c2st_of_seeds.len() as f64;
            continue;
        }
        let key = |f: &Figure| Setup { task: String::new(), fold_seeds: Vec::new(), ..f.setup.clone() };
        match groups.iter_mut().find(|group| group.first().is_some_and(|f| key(f) == key(&figure))) {
            Some(group) => group.push(figure),
            None => groups.push(vec![figure]),
        }
    }
    let mut lines = Vec::new();
    for group in &mut groups {
        group.sort_by_key(|f| (TASKS.iter().position(|task| *task == f.setup.task), f.observation));
        if let Some(Setup { seed, draws, .. }) = group.first().map(|f| &f.setup) {
            let fewest = group.iter().map(|f| f.setup.fold_seeds.len()).min().unwrap_or_default();
            lines.push(format!("\nseed {seed}, {draws} draws, {fewest} fold seeds or more"));
        }
        lines.extend(table(group, published));
    }
    Ok(lines)
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn figure(task: &str, method: Method, observation: usize, c2st: f64) -> Figure {
        let setup = Setup {
            task: task.to_owned(),
            method,
            simulations: 1000,
            refine: false,
            seed: 0,
            draws: 10_000,
            fold_seeds: vec![1],
        };
        Figure {
            setup,
            observation,
            c2st,
            c2st_of_seeds: vec![c2st],
            evaluations: 640_000,
            seconds_train: 120.0,
            seconds_draw: 1.0,
            seconds_score: 1.0,
        }
    }

    #[test]
    fn ours_stands_beside_the_published_mean_over_the_same_observations() {
        let published = Published::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("references")).unwrap();
        let figures = [
            figure("slcp", Method::Npe, 1, 0.9),
            figure("slcp", Method::Npe, 2, 0.8),
            figure("sir", Method::Npe, 1, 0.6),
        ];
        let lines = table(&figures, &published);
        assert_eq!(lines.len(), 4);
        for word in ["slcp", "npe", "1,2", "0.8500", "0.9000", "0.982", "640000", "2.00"] {
            assert!(lines[1].split_whitespace().any(|w| w == word), "{word}: {}", lines[1]);
        }
        assert!(lines[3].contains("mean of 2") && lines[3].contains("0.7250"), "{}", lines[3]);
    }

    #[test]
    fn rows_that_runs_left_make_a_table_for_each_kind() {
        let published = Published::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("references")).unwrap();
        let figures = [
            figure("sir", Method::Npe, 1, 0.6),
            figure("sir", Method::Likelihood, 1, 0.5),
            figure("slcp", Method::Npe, 2, 0.8),
            figure("slcp", Method::Npe, 1, 0.9),
        ];
        let text: String = figures.iter().map(|f| serde_json::to_string(f).unwrap() + "\n").collect();
        let lines = tables(&text, &published).unwrap();
        assert_eq!(lines.len(), 2 + 3 + 2 + 1, "{lines:#?}");
        assert!(lines[2].starts_with("slcp") && lines[2].contains("1,2") && lines[3].starts_with("sir"));
        let mut other = figure("sir", Method::Npe, 1, 0.8);
        other.setup.fold_seeds = vec![2, 3];
        other.c2st_of_seeds = vec![0.8, 0.7];
        let with_more = text.clone() + &serde_json::to_string(&other).unwrap();
        let lines = tables(&with_more, &published).unwrap();
        assert!(lines[3].starts_with("sir") && lines[3].contains("0.7000"), "{}", lines[3]);
        assert_eq!(lines.len(), 2 + 3 + 2 + 1, "{lines:#?}");
        let error = format!("{:#}", tables(&format!("{text}nonsense"), &published).unwrap_err());
        assert!(error.starts_with("row 5"), "{error}");
    }

    #[test]
    fn a_missed_bound_of_exact_draws_is_told() {
        let published = Published::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("references")).unwrap();
        for (c2st, missed) in [(0.52, false), (0.54, true)] {
            let lines = table(&[figure(TASKS[0], Method::Rounds, 1, c2st)], &published);
            assert_eq!(lines[1].contains("MISSED"), missed, "{}", lines[1]);
            assert_eq!(lines.len(), 2, "one task has no mean of its own");
        }
        let lines = table(&[figure("lotka_volterra", Method::Rounds, 1, 0.59)], &published);
        assert!(!lines[1].contains("MISSED"), "{}", lines[1]);
    }
}
