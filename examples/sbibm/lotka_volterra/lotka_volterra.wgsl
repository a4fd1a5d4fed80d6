// lotka_volterra of sbibm (Lueckmann et al. 2021, T.10): d prey/dt = alpha prey - beta prey predator, d predator/dt = delta prey
// predator - gamma predator from 30 and 1; at times 0, 2.1, ..., 18.9 both are observed with log-normal noise of sd 0.1.
// Data: one row, ten times the prey, then ten times the predator. The state is the logarithm of both, so they stay positive;
// 70 Runge-Kutta steps of order 4 between two observations err by less than 0.03 standard deviations of the noise at 999 of 1000
// draws of the prior, by less than 2e-4 at nine of ten.
const STEPS = 70u;
const SD = 0.1;

// Slope of (log prey, log predator). The cap, e^15, keeps wild draws of the prior finite.
fn slope(state: vec2<f32>, rates: vec4<f32>) -> vec2<f32> {
    let size = exp(min(state, vec2<f32>(15.0)));
    return vec2<f32>(rates.x - rates.y * size.y, rates.w * size.x - rates.z);
}

// log of prey and predator at the ten times, between log 1e-10 and log 10000 as in sbibm.
fn populations(theta: array<f32, D>) -> array<vec2<f32>, 10> {
    let rates = vec4<f32>(theta[0], theta[1], theta[2], theta[3]);
    var at: array<vec2<f32>, 10>;
    var state = vec2<f32>(3.4011973817, 0.0);
    let h = 2.1 / f32(STEPS);
    for (var time = 0u; time < 10u; time++) {
        at[time] = clamp(state, vec2<f32>(-23.025850930), vec2<f32>(9.2103403720));
        for (var step = 0u; step < STEPS; step++) {
            let k1 = slope(state, rates);
            let k2 = slope(state + 0.5 * h * k1, rates);
            let k3 = slope(state + 0.5 * h * k2, rates);
            let k4 = slope(state + h * k3, rates);
            state += h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
        }
    }
    return at;
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let mean = populations(theta);
    var total = 0.0;
    for (var time = 0u; time < 10u; time++) {
        let observed = log(vec2<f32>(data(0u, time), data(0u, 10u + time)));
        total += normal_log_pdf(observed.x, mean[time].x, SD) + normal_log_pdf(observed.y, mean[time].y, SD);
        total -= observed.x + observed.y;
    }
    return total;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 20> {
    let mean = populations(theta);
    var x: array<f32, 20>;
    for (var time = 0u; time < 10u; time++) {
        x[time] = exp(mean[time].x + SD * normal(stream));
        x[10u + time] = exp(mean[time].y + SD * normal(stream));
    }
    return x;
}
