// Prey and predators by Runge and Kutta's method, seen with lognormal noise at the times 1, 2, ..., n_rows.
// theta: logs of four rates, of two first values and of two noise scales.
const steps = 10;
fn slope(state: vec2<f32>, rate: vec4<f32>) -> vec2<f32> {
    let meet = state.x * state.y;
    return vec2(rate.x * state.x - rate.y * meet, rate.z * meet - rate.w * state.y);
}
fn log_likelihood(theta: array<f32, D>) -> f32 {
    let rate = vec4(exp(theta[0]), exp(theta[1]), exp(theta[2]), exp(theta[3]));
    var state = vec2(exp(theta[4]), exp(theta[5]));
    let sd = vec2(exp(theta[6]), exp(theta[7]));
    let h = 1.0 / f32(steps);
    var sum = 0.0;
    for (var row = 0u; row < n_rows; row++) {
        for (var i = 0; i < steps; i++) {
            let k1 = slope(state, rate);
            let k2 = slope(state + 0.5 * h * k1, rate);
            let k3 = slope(state + 0.5 * h * k2, rate);
            let k4 = slope(state + h * k3, rate);
            state += h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
        }
        if min(state.x, state.y) <= 0.0 {
            return minus_infinity();
        }
        sum += normal_log_pdf(data(row, 0u), log(state.x), sd.x);
        sum += normal_log_pdf(data(row, 1u), log(state.y), sd.y);
    }
    return sum;
}
