// D / 2 independent pairs, each a double well in x and a Gaussian in y: 2^(D / 2) modes, the deeper well of a pair holds
// 0.8443. On the box of the task file log Z = (D / 2) (10.29348 - 2 log 10). The problem of FAB (Midgley et al. 2023).
fn log_likelihood(theta: array<f32, D>) -> f32 {
    var total = 0.0;
    for (var i = 0u; i < D; i += 2u) {
        let x = theta[i];
        let y = theta[i + 1u];
        total += x * x * (6.0 - x * x) + 0.5 * x - 0.5 * y * y;
    }
    return total;
}
