//! The variant table: every kernel with the sets of constants that the build validates and the tests translate.
//! Sizes that only change a loop bound are uniforms, so the table stays short; a new kernel must add a row.

use crate::template::Constants;

/// The conditioner's activations, by the name the templates use.
pub const ACTIVATIONS: [&str; 3] = ["relu", "silu", "tanh"];

/// Every kernel with the constants of each variant that is validated.
#[must_use]
pub fn variants() -> Vec<(&'static str, Constants)> {
    let mut rows = Vec::new();
    for workgroup in [8, 64] {
        let base = Constants::new().with("workgroup", workgroup);
        for (tile, vectors) in [(16, 2), (8, 2), (4, 2), (8, 1), (4, 1)] {
            let tiled = base.clone().with("tile", tile).with("vectors", vectors);
            for activation in ACTIVATIONS {
                for keep in [false, true] {
                    let constants = tiled.clone().with("activation", activation).with("keep", keep);
                    rows.push(("linear_forward", constants));
                }
                rows.push(("linear_backward_data", tiled.clone().with("activation", activation)));
            }
            rows.push(("linear_forward", tiled.clone().with("activation", "none").with("keep", false)));
            rows.push(("linear_backward_data", tiled.with("activation", "none")));
        }
        for tile in [4, 8] {
            rows.push(("linear_weight_grad", base.clone().with("tile", tile)));
        }
        for kernel in [
            "reduce_partials",
            "conditioner_input",
            "conditioner_input_grad",
            "affine_coupling_inverse",
            "affine_coupling_forward",
            "affine_coupling_backward",
            "spline_coupling_inverse",
            "spline_coupling_forward",
            "spline_coupling_backward",
        ] {
            rows.push((kernel, base.clone()));
        }
        for kernel in ["outer_to_flow", "outer_log_prob", "outer_from_flow", "draw_base"] {
            rows.push((kernel, base.clone()));
        }
        for gradient in [false, true] {
            rows.push(("gaussian_base", base.clone().with("gradient", gradient)));
            rows.push(("mixture_log_prob", base.clone().with("gradient", gradient)));
        }
        for full in [false, true] {
            let constants = base.clone().with("full", full);
            for kernel in ["mixture_whiten", "mixture_grad", "mixture_statistics"] {
                rows.push((kernel, constants.clone()));
            }
        }
    }
    rows.extend(fused());
    rows.extend(training());
    rows.extend(likelihoods());
    rows.extend(simulators());
    rows
}

/// A user's likelihood with and without derived quantities and data, of given theta, of draws of a scan and of many observations;
/// the sums of a scan.
fn likelihoods() -> Vec<(&'static str, Constants)> {
    let plain = "fn log_likelihood(theta: array<f32, D>) -> f32 { return normal_log_pdf(theta[0], erf(theta[1]), 1.0); }";
    let data = "fn log_likelihood(theta: array<f32, D>) -> f32 {
        return normal_log_pdf(data(n_rows - 1u, 0u), log_add(theta[0], theta[1]), lgamma(3.5));
    }
    fn derived(theta: array<f32, D>) -> array<f32, M> { return array<f32, M>(normal_log_cdf(theta[0])); }";
    let block = Constants::new().with("workgroup", 64).with("block", 8192);
    let mut rows = vec![("reduce_scan", block.clone().with("slots", 256))];
    for (user, n_derived, n_rows, reads_data) in [(plain, 0, 0, false), (data, 1, 5, true)] {
        let constants = Constants::new()
            .with("workgroup", 64)
            .with("dim", 2)
            .with("n_derived", n_derived)
            .with("n_rows", n_rows)
            .with("n_columns", 1)
            .with("reads_data", reads_data)
            .with("n_observed", 0)
            .with("random", false)
            .with("observed", false)
            .with("user", user);
        let given = constants.clone().with("scan", false);
        if reads_data {
            rows.push(("evaluate_likelihood", given.clone().with("observed", true)));
            let alone = user.split("fn derived").next().unwrap_or(user);
            let given = given.clone().with("n_derived", 0).with("user", alone);
            rows.push(("evaluate_likelihood", given.with("observed", true)));
        }
        rows.push(("evaluate_likelihood", given));
        let scan = constants.with("scan", true).with("block", 8192).with("n_cubics", 2048);
        rows.push(("evaluate_likelihood", scan));
    }
    rows
}

/// A user's simulator with every function of random numbers, with and without data; the same file as a likelihood's.
fn simulators() -> Vec<(&'static str, Constants)> {
    let simulate = "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
        let n = poisson(theta[0], stream) + binomial(10u, uniform01(stream), stream);
        return array<f32, X>(f32(n), normal(stream) + exponential(stream), student_t(gamma(theta[1], stream), stream));
    }";
    let log_likelihood = "fn log_likelihood(theta: array<f32, D>) -> f32 { return data(0u, 0u); }";
    let with_data = format!("{}\n{log_likelihood}", simulate.replace("theta[0]", "data(1u, 0u)"));
    let mut rows = Vec::new();
    for (user, n_rows, reads_data) in [(simulate, 0, false), (with_data.as_str(), 5, true)] {
        let constants = Constants::new()
            .with("workgroup", 64)
            .with("dim", 2)
            .with("n_derived", 0)
            .with("n_observed", 3)
            .with("n_rows", n_rows)
            .with("n_columns", 1)
            .with("reads_data", reads_data)
            .with("user", user);
        if reads_data {
            let likelihood = constants.clone().with("random", true).with("scan", false);
            let likelihood = likelihood.with("observed", false);
            rows.push(("evaluate_likelihood", likelihood));
        }
        rows.push(("evaluate_simulator", constants));
    }
    rows
}

/// The rest of a training step: batch, loss, optimiser and the mixture's parameters.
fn training() -> Vec<(&'static str, Constants)> {
    let mut rows = Vec::new();
    for workgroup in [8, 64] {
        let base = Constants::new().with("workgroup", workgroup);
        for kernel in ["gather_batch", "weighted_loss", "gradient_norm", "adam_propose", "adam_commit"] {
            rows.push((kernel, base.clone()));
        }
        for full in [false, true] {
            for kernel in ["mixture_pack", "mixture_parameter_grad"] {
                rows.push((kernel, base.clone().with("full", full)));
            }
        }
    }
    rows
}

/// The fused path: shapes with and without identity part and context, one and two vectors of rows.
fn fused() -> Vec<(&'static str, Constants)> {
    let mut rows = Vec::new();
    for activation in ACTIVATIONS {
        for (n_a, n_b, n_c, h1, h2, groups, lanes) in
            [(1, 1, 0, 8, 16, 2, 8), (0, 1, 0, 8, 8, 1, 8), (2, 1, 3, 16, 8, 1, 8), (2, 1, 3, 8, 32, 2, 16)]
        {
            let base = Constants::new()
                .with("lanes", lanes)
                .with("n_a", n_a)
                .with("n_b", n_b)
                .with("n_c", n_c)
                .with("h1", h1)
                .with("h2", h2)
                .with("rows", 4)
                .with("groups", groups)
                .with("activation", activation);
            for kernel in ["fused_inverse", "fused_forward"] {
                for vectors in [1, 2] {
                    rows.push((kernel, base.clone().with("vectors", vectors).with("slope", false)));
                }
            }
            rows.push(("fused_backward_data", base.clone().with("vectors", 1).with("slope", true)));
            rows.push(("fused_weight_grad", base.with("vectors", 1).with("slope", false)));
        }
    }
    rows
}
