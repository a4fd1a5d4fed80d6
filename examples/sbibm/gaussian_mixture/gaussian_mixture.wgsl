// gaussian_mixture of sbibm (Lueckmann et al. 2021, T.7): x is N(theta, 1) or N(theta, 0.1^2) in both coordinates, with even
// odds. Data: one row, x.
const WIDE = 1.0;
const NARROW = 0.1;

fn log_component(theta: array<f32, D>, sd: f32) -> f32 {
    return normal_log_pdf(data(0u, 0u), theta[0], sd) + normal_log_pdf(data(0u, 1u), theta[1], sd);
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    return log_add(log_component(theta, WIDE), log_component(theta, NARROW)) - LN_2;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 2> {
    let sd = select(NARROW, WIDE, uniform01(stream) < 0.5);
    let first = normal(stream);
    let second = normal(stream);
    return array<f32, 2>(theta[0] + sd * first, theta[1] + sd * second);
}
