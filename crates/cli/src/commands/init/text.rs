//! The text of a task file, with its comments. Defaults are taken from the sections themselves, so that a comment cannot
//! say another one.

use super::guess::Components;
use super::points::{End, Parameter, PointsGuess};
use crate::task::{FlowSection, OutputSection, TrainingSection};
use lwflow_host::rounds::RoundsSettings;
use std::fmt::Write;

/// Where the points or the values of a task come from.
pub struct Heading<'a> {
    /// What it is begun from, in words.
    pub from: String,
    /// The task file, as the user names it.
    pub task: String,
    /// The section [likelihood] without its heading, lines with their ends.
    pub likelihood: &'a str,
}

/// A text as a TOML string on one line.
pub fn quoted(text: &str) -> String {
    let plain = !text.contains('\'') && !text.chars().any(char::is_control);
    if plain && text.contains('\\') {
        return format!("'{text}'");
    }
    // TOML's escapes are those of JSON, and one more.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A name as a TOML key.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A setting with its comment at a fixed column.
pub fn line(setting: &str, comment: &str) -> String {
    if comment.is_empty() { format!("{setting}\n") } else { format!("{setting:30} # {comment}\n") }
}

fn heading(heading: &Heading<'_>) -> String {
    let Heading { from, task, likelihood } = heading;
    format!(
        "# A task for lwflow, begun by `lwflow init` {from}.\n\
         # Check it:  lwflow check {task}\n\
         # Run it:    lwflow fit {task} --out runs/first\n\
         # What is called a guess below is one: look at it. All other settings and their defaults stand at the end.\n\n\
         [likelihood]\n{likelihood}"
    )
}

/// A task with points.
pub fn of_points(top: &Heading<'_>, guess: &PointsGuess) -> String {
    let mut text = heading(top);
    text.push_str(
        "\n# Every parameter that has a section is fitted, in this order. No sample ever lies on or outside a bound, so one\n\
         # belongs where the density truly ends and nowhere else.\n",
    );
    for parameter in &guess.parameters {
        text.push_str(&parameter_of_points(parameter));
    }
    text.push_str("\n[base]\nkind = \"mixture\"\n");
    let of_least = |c: &Components| c.table.iter().min_by(|a, b| a.bic.total_cmp(&b.bic)).cloned();
    match guess.components.as_ref().and_then(|c| Some((c, of_least(c)?))) {
        Some((components, best)) => {
            text.push_str(&line(
                &format!("n_components = {}", best.n_components),
                "a guess; \"auto\" finds it anew in every fit",
            ));
            text.push_str("# The points as a mixture of K Gaussians, by how much their weighted BIC exceeds the least:\n#  ");
            for row in &components.table {
                let _ = write!(text, " K = {}: {:.0},", row.n_components, row.bic - best.bic);
            }
            text.pop();
            let modes = match components.n_modes {
                1 => "one mode is seen".to_owned(),
                n => format!("{n} modes with valleys between them are seen"),
            };
            let _ = writeln!(
                text,
                ".\n# In the density of the best of them {modes}. K counts Gaussians, not modes: a curved mode\n\
                 # takes several, and the flow bends them; modes that touch may be seen as one."
            );
        }
        None => text.push_str(&line("n_components = \"auto\"", "too few effective points to guess it here")),
    }
    text.push_str(&defaults());
    text
}

fn parameter_of_points(parameter: &Parameter) -> String {
    let (low, high) = parameter.ends;
    let name = &parameter.name;
    if parameter.is_left_out {
        return format!(
            "\n# {name} is {low} in every weighted point: it cannot be fitted and has no section.\n"
        );
    }
    let mut text = format!("\n[parameters.{}]\n", key(name));
    match &parameter.label {
        Some(label) => {
            text.push_str(&line(&format!("label = {}", quoted(label)), "simple LaTeX, for the figures"))
        }
        None => text.push_str(&line(&format!("# label = {}", quoted(name)), "simple LaTeX, for the figures")),
    }
    for (side, end, observed) in [("lower", &parameter.lower, low), ("upper", &parameter.upper, high)] {
        let which = if side == "lower" { "least" } else { "largest" };
        let observed = short(observed);
        text.push_str(&match end {
            End::Given(bound, file) => line(&format!("{side} = {bound:?}"), &format!("from {file}")),
            End::Refuted { bound, file, n } => line(
                &format!("# {side} = {bound:?}"),
                &format!("from {file}, but {n} weighted points lie on or outside the bounds"),
            ),
            End::Draws(bound) => line(
                &format!("{side} = {bound:?}"),
                &format!("a guess: there the draws end; {which} weighted value {observed}"),
            ),
            End::Mass(bound) => line(
                &format!("{side} = {bound:?}"),
                &format!("a guess: there mass piles up; {which} weighted value {observed}"),
            ),
            End::Unclear => line(
                &format!("# {side} ="),
                &format!("too few effective points to see an end; {which} weighted value {observed}"),
            ),
            End::Open => line(
                &format!("# {side} ="),
                &format!("none: no mass piles up at the {which} weighted value {observed}"),
            ),
        });
    }
    if parameter.is_periodic {
        text.push_str(&line("periodic = true", "the bounds are the same point"));
    }
    if let (End::Draws(_), End::Draws(_)) = (&parameter.lower, &parameter.upper) {
        text.push_str(&line(
            "# prior = \"uniform\"",
            "if the draws come from it: the fit is less noisy then",
        ));
    }
    text
}

/// A number to five digits.
fn short(x: f64) -> String {
    format!("{:?}", format!("{x:.4e}").parse().unwrap_or(x))
}

/// A task with a likelihood that is evaluated.
pub fn of_likelihood(top: &Heading<'_>, names: &[String]) -> String {
    let mut text = heading(top);
    text.push_str(
        "\n# A section with a prior for every parameter, in the order in which the likelihood takes them. These are examples.\n\
         # Besides uniform there are log_uniform (lower, upper), normal (mean, sd), truncated_normal (mean, sd, lower, upper),\n\
         # lognormal (mu, sigma), half_normal (sd), exponential (scale), gamma (shape, scale), beta (alpha, beta) and\n\
         # student_t (df, loc, scale).\n",
    );
    for (i, name) in names.iter().enumerate() {
        let _ =
            writeln!(text, "\n[parameters.{}]\nprior = \"uniform\"\nlower = -5.0\nupper = 5.0", key(name));
        if i == 0 {
            text.push_str(&line("# periodic = true", "if the bounds are the same point, as of an angle"));
            text.push_str(&line(&format!("# label = {}", quoted(name)), "simple LaTeX, for the figures"));
        }
    }
    let rounds = RoundsSettings::default();
    text.push_str("\n[rounds]\n");
    text.push_str(&line(
        &format!("target_ess = {:?}", rounds.target_ess),
        "effective size that fresh draws of the final flow must reach",
    ));
    text.push_str(&line(
        &format!("max_evaluations = {}", rounds.max_evaluations),
        "of the likelihood, everything counted",
    ));
    text.push_str(&line("# max_time = 600.0", "seconds"));
    text.push_str(&line("# max_log_z_sd = 0.01", "largest standard error of log Z"));
    text.push_str(&defaults());
    text
}

fn defaults() -> String {
    let (flow, training, output) =
        (FlowSection::default(), TrainingSection::default(), OutputSection::default());
    let mut text = String::from("\n# Further settings with their defaults.\n# [flow]\n");
    text.push_str(&line(&format!("# n_layers = {}", flow.n_layers), "coupling layers"));
    text.push_str(&line(&format!("# hidden = {:?}", flow.hidden), "widths of every conditioner"));
    text.push_str(&line(
        "# coupling = \"affine\"",
        "or \"spline\", with n_bins and bound: see docs/guide.md",
    ));
    text.push_str("# [training]\n");
    text.push_str(&line(&format!("# batch_size = {}", training.batch_size), "points per step"));
    text.push_str(&line(
        &format!("# max_visits = {}", training.max_visits),
        "points visited, repeats counted",
    ));
    text.push_str(&line(&format!("# learning_rate = {:?}", training.learning_rate), "at the start"));
    text.push_str("# [output]\n");
    text.push_str(&line(&format!("# n_samples = {}", output.n_samples), "in samples.npz"));
    text.push_str(&line(&format!("# figures = {}", output.figures), ""));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_keys_read_back() {
        for text in ["a", "\\theta_0", "it's \\a", "a \"b\"", "tab\there", "Ω_m", "a.b", "x 1", "q\u{7f}"] {
            let table: toml::Table = format!("[p.{}]\nv = {}\n", key(text), quoted(text)).parse().unwrap();
            assert_eq!(table["p"][text]["v"].as_str(), Some(text));
        }
    }
}
