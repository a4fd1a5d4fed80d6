//! The ten tasks of sbibm (Lueckmann et al. 2021, arXiv 2101.04653): what `lwflow` reaches on them beside what was published.
//! Invariant: figures come from what the command writes and are scored by the benchmark's own recipe, and every one is said
//! together with what its method was allowed to see.

mod classifier;
mod product;
mod published;
mod run;
mod table;

pub use classifier::c2st;
pub use published::Published;
pub use run::{Bench, Figure, Method, Setup};
pub use table::{table, tables};

/// The tasks, as they are named in the package, under examples/sbibm and in the tables.
pub const TASKS: [&str; 10] = [
    "gaussian_linear",
    "gaussian_linear_uniform",
    "slcp",
    "slcp_distractors",
    "bernoulli_glm",
    "bernoulli_glm_raw",
    "gaussian_mixture",
    "two_moons",
    "sir",
    "lotka_volterra",
];

/// What each method is allowed to see.
pub const RULES: &str = "npe sees simulations alone; likelihood sees simulations and evaluates the likelihood of each at 64 \
theta; refine adds the likelihood of the one observation; rounds see that and no simulations; the published figures are of NPE";

/// Largest C2ST that [`Method::Rounds`] and refinement are to reach.
pub fn bound_of_exact(task: &str) -> f64 {
    if task == "lotka_volterra" { 0.60 } else { 0.53 }
}
