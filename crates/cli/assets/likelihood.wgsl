// The log likelihood: the natural logarithm of p(data | theta), any constant included that log Z is to have.
// theta holds the D parameters in the order of the task file. docs/wgsl-likelihood.md lists what else there is: observed
// data by data(row, column), derived quantities, log densities, log_add, safe_exp, erf, lgamma and more.
//
// An example to be replaced: two separated modes of equal mass. With the uniform priors of the task, log Z = -log 100 = -4.605.

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let left = normal_log_pdf(theta[0], -2.0, 0.4) + normal_log_pdf(theta[1], 1.0, 0.4);
    let right = normal_log_pdf(theta[0], 2.0, 0.6) + normal_log_pdf(theta[1], -1.0, 0.6);
    return log_add(left, right) - LN_2;
}
