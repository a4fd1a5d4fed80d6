// Predator and prey: d prey/dt = alpha prey - beta prey predator, d predator/dt = delta prey predator - gamma predator,
// observed with log-normal noise. theta: alpha, beta, gamma, delta, prey_0, predator_0, sigma_prey, sigma_predator.
// Data: rows of time, prey, predator. The state is the logarithm of both populations, so they stay positive; ten Runge-Kutta
// steps of order 4 between two observations change log L by less than 1e-3 over the posterior.
const STEPS = 10u;

// Slope of (log prey, log predator). The cap, e^15, keeps wild draws of the prior finite.
fn slope(state: vec2<f32>, rates: vec4<f32>) -> vec2<f32> {
    let size = exp(min(state, vec2<f32>(15.0)));
    return vec2<f32>(rates.x - rates.y * size.y, rates.w * size.x - rates.z);
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let rates = vec4<f32>(theta[0], theta[1], theta[2], theta[3]);
    let sigma = vec2<f32>(theta[6], theta[7]);
    var state = log(vec2<f32>(theta[4], theta[5]));
    var total = -f32(n_rows) * (log(sigma.x * sigma.y) + LOG_2_PI);
    for (var row = 0u; row < n_rows; row++) {
        let observed = log(vec2<f32>(data(row, 1u), data(row, 2u)));
        let residual = (observed - state) / sigma;
        total -= 0.5 * dot(residual, residual) + observed.x + observed.y;
        if row + 1u < n_rows {
            let h = (data(row + 1u, 0u) - data(row, 0u)) / f32(STEPS);
            for (var step = 0u; step < STEPS; step++) {
                let k1 = slope(state, rates);
                let k2 = slope(state + 0.5 * h * k1, rates);
                let k3 = slope(state + 0.5 * h * k2, rates);
                let k4 = slope(state + h * k3, rates);
                state += h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
            }
        }
    }
    return total;
}
