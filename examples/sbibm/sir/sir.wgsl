// sir of sbibm (Lueckmann et al. 2021, T.9): dS/dt = -beta S I / N, dI/dt = beta S I / N - gamma I from one infected of N = 1e6;
// at days 0, 17, ..., 153 the number of infected among 1000 people is binomial with probability I / N. Data: one row, ten counts.
// The state is the logarithm of S / N and I / N, so both stay positive; 34 Runge-Kutta steps of order 4 between two observations
// err by less than 5e-4 standard deviations of the counts at all of 4000 draws of the prior.
const STEPS = 34u;
const PEOPLE = 1000.0;

fn slope(state: vec2<f32>, theta: vec2<f32>) -> vec2<f32> {
    let share = exp(state);
    return vec2<f32>(-theta.x * share.y, theta.x * share.x - theta.y);
}

// log(I / N) at the ten times.
fn log_infected(theta: vec2<f32>) -> array<f32, 10> {
    var at: array<f32, 10>;
    var state = vec2<f32>(-1e-6, -13.815510558); // log(1 - 1e-6), log 1e-6
    let h = 17.0 / f32(STEPS);
    for (var time = 0u; time < 10u; time++) {
        at[time] = min(state.y, -1e-6);
        for (var step = 0u; step < STEPS; step++) {
            let k1 = slope(state, theta);
            let k2 = slope(state + 0.5 * h * k1, theta);
            let k3 = slope(state + 0.5 * h * k2, theta);
            let k4 = slope(state + h * k3, theta);
            state += h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
        }
    }
    return at;
}

// log k! - (k log k - k) - log(2 pi k) / 2 by the continued fraction of Stieltjes (DLMF 5.10.1), k >= 1.
fn stirling_rest(k: f32) -> f32 {
    return 0.083333333333 / (k + 0.033333333333 / (k + 0.25238095238 / (k + 0.52560646900 / k)));
}

// log of the binomial probability of k of PEOPLE, by its deviance (Loader 2000, "Fast and accurate computation of binomial
// probabilities"), which does not cancel as factorials would.
fn binomial_log_pmf(k: f32, log_p: f32) -> f32 {
    let p = exp(log_p);
    // log(1 - p), also where p is lost beside 1
    let log_q = select(log(1.0 - p), -p * (1.0 + p * (0.5 + p / 3.0)), p < 1e-3);
    let rest = PEOPLE - k;
    if k < 0.5 {
        return PEOPLE * log_q;
    }
    if rest < 0.5 {
        return PEOPLE * log_p;
    }
    let constant = stirling_rest(PEOPLE) - stirling_rest(k) - stirling_rest(rest) - 0.5 * (LOG_2_PI + log(k * (rest / PEOPLE)));
    return constant + k * (log_p - log(k / PEOPLE)) + rest * (log_q - log(rest / PEOPLE));
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let log_p = log_infected(vec2<f32>(theta[0], theta[1]));
    var total = 0.0;
    for (var time = 0u; time < 10u; time++) {
        total += binomial_log_pmf(data(0u, time), log_p[time]);
    }
    return total;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 10> {
    let log_p = log_infected(vec2<f32>(theta[0], theta[1]));
    var x: array<f32, 10>;
    for (var time = 0u; time < 10u; time++) {
        x[time] = f32(binomial(u32(PEOPLE), exp(log_p[time]), stream));
    }
    return x;
}
