// Five Rosenbrock pairs, with the prior of the task file: log Z = -21.402 (a one-dimensional quadrature per pair).
// The problem of pocoMC's published run (Karamanis et al. 2022).
fn log_likelihood(theta: array<f32, D>) -> f32 {
    var total = 0.0;
    for (var i = 0u; i < D; i += 2u) {
        let valley = theta[i] * theta[i] - theta[i + 1u];
        let along = theta[i] - 1.0;
        total -= 10.0 * valley * valley + along * along;
    }
    return total;
}
