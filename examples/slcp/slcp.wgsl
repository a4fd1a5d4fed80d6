// Simple likelihood, complex posterior: SLCP of sbibm (Lueckmann et al. 2021). Points in the plane, N(m, S): m = theta_0,
// theta_1; standard deviations theta_2^2, theta_3^2, correlation tanh theta_4; 1e-6 is added to both variances, as in sbibm.
// Data: four rows of two columns. The density is that of x_0 times that of x_1 given x_0, which stays exact when S is narrow.
fn log_likelihood(theta: array<f32, D>) -> f32 {
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
    var total = -f32(n_rows) * (LOG_2_PI + 0.5 * log(variance.x) + 0.5 * log(rest));
    for (var row = 0u; row < n_rows; row++) {
        let d = vec2<f32>(data(row, 0u) - theta[0], data(row, 1u) - theta[1]);
        let conditional = d.y - slope * d.x;
        total -= 0.5 * (d.x * d.x / variance.x + conditional * conditional / rest);
    }
    return total;
}
