// two_moons of sbibm (Lueckmann et al. 2021): the density of its simulator, N(r; 0.1, 0.01^2) / (pi r) on the half disk u > 0,
// where (u, v) is what the noise must have been. sbibm's own likelihood leaves out 1 / (pi r), which its simulator and its
// reference draws have. Data: one row, x_0, x_1.
const SQRT_HALF = 0.7071067812;

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let u = data(0u, 0u) + SQRT_HALF * abs(theta[0] + theta[1]) - 0.25;
    let v = data(0u, 1u) - SQRT_HALF * (theta[1] - theta[0]);
    if u <= 0.0 {
        return minus_infinity();
    }
    let r = sqrt(u * u + v * v);
    let z = (r - 0.1) / 0.01;
    // 2.5415017669 = -log(0.01 sqrt(2 pi) pi)
    return 2.5415017669 - 0.5 * z * z - log(r);
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 2> {
    let angle = PI * (uniform01(stream) - 0.5);
    let r = 0.1 + 0.01 * normal(stream);
    let u = r * cos(angle) + 0.25;
    let v = r * sin(angle);
    return array<f32, 2>(u - SQRT_HALF * abs(theta[0] + theta[1]), v + SQRT_HALF * (theta[1] - theta[0]));
}
