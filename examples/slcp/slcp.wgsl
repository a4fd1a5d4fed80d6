// Simple likelihood, complex posterior: SLCP of sbibm (Lueckmann et al. 2021). Points in the plane, N(m, S): m = theta_0,
// theta_1; standard deviations theta_2^2, theta_3^2, correlation tanh theta_4; 1e-6 is added to both variances, as in sbibm.
// Data: four points, as rows of two columns or all in one row. The density is that of x_0 times that of x_1 given x_0, which
// stays exact when S is narrow.
const POINTS = 4u;

// S as the variance of x_0, the slope of x_1 on x_0, and the variance of x_1 given x_0.
fn spread(theta: array<f32, D>) -> vec3<f32> {
    let s = vec2<f32>(theta[2] * theta[2], theta[3] * theta[3]);
    let rho = safe_tanh(theta[4]);
    // 1 - rho^2 without cancellation
    let e = safe_exp(-2.0 * abs(theta[4]));
    let unexplained = 4.0 * e / ((1.0 + e) * (1.0 + e));
    let variance = s * s + 1e-6;
    let slope = rho * s.x * s.y / variance.x;
    let explained = rho * rho * s.y * s.y;
    // Of x_1 given x_0: variance.y - (rho s.x s.y)^2 / variance.x
    let rest = s.y * s.y * unexplained + 1e-6 + explained * (1e-6 / variance.x);
    return vec3<f32>(variance.x, slope, rest);
}

// Observed value number i of the eight.
fn observed(i: u32) -> f32 {
    return data(i / n_columns, i % n_columns);
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let s = spread(theta);
    var total = -f32(POINTS) * (LOG_2_PI + 0.5 * log(s.x) + 0.5 * log(s.z));
    for (var point = 0u; point < POINTS; point++) {
        let d = vec2<f32>(observed(2u * point) - theta[0], observed(2u * point + 1u) - theta[1]);
        let conditional = d.y - s.y * d.x;
        total -= 0.5 * (d.x * d.x / s.x + conditional * conditional / s.z);
    }
    return total;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 8> {
    let s = spread(theta);
    var x: array<f32, 8>;
    for (var point = 0u; point < POINTS; point++) {
        let d = sqrt(s.x) * normal(stream);
        x[2u * point] = theta[0] + d;
        x[2u * point + 1u] = theta[1] + s.y * d + sqrt(s.z) * normal(stream);
    }
    return x;
}
