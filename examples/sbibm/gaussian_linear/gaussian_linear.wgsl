// gaussian_linear and gaussian_linear_uniform of sbibm (Lueckmann et al. 2021, T.1 and T.2): x is N(theta, 0.1) in each of ten
// dimensions, 0.1 the variance. Data: one row, x.
const SD = 0.31622776602;

fn log_likelihood(theta: array<f32, D>) -> f32 {
    var total = 0.0;
    for (var j = 0u; j < D; j++) {
        total += normal_log_pdf(data(0u, j), theta[j], SD);
    }
    return total;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, D> {
    var x: array<f32, D>;
    for (var j = 0u; j < D; j++) {
        x[j] = theta[j] + SD * normal(stream);
    }
    return x;
}
