// Five Rosenbrock pairs.
fn log_likelihood(theta: array<f32, D>) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < D; i += 2u) {
        let x = theta[i];
        let y = theta[i + 1u];
        sum -= 10.0 * square(x * x - y) + square(x - 1.0);
    }
    return sum;
}
