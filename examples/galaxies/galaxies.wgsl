// Velocities of galaxies, in 1000 km/s, as a mixture of three Gaussians. theta: mean_0..2, log_sd_0..2 (of 1000 km/s), and
// two coordinates in the plane of log weights that sum to zero (isometric log-ratios: Egozcue et al. 2003). Exchanging two
// components reflects that plane, so a round Gaussian prior there is symmetric in the components. Data: one column, km/s.
const HALF_LOG_2_PI = 0.9189385332;

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let mean = vec3<f32>(theta[0], theta[1], theta[2]);
    let log_sd = vec3<f32>(theta[3], theta[4], theta[5]);
    let inverse_sd = exp(-log_sd);
    // Orthonormal columns (1, -1, 0) / sqrt(2) and (1, 1, -2) / sqrt(6).
    let a = theta[6] * 0.7071067812;
    let b = theta[7] * 0.4082482905;
    let logit = vec3<f32>(a + b, b - a, -2.0 * b);
    let top = max(logit.x, max(logit.y, logit.z));
    let unit = exp(logit - top);
    let log_weight = logit - (top + log(unit.x + unit.y + unit.z));
    let constant = log_weight - log_sd - HALF_LOG_2_PI;
    var total = 0.0;
    for (var row = 0u; row < n_rows; row++) {
        let z = (0.001 * data(row, 0u) - mean) * inverse_sd;
        let part = constant - 0.5 * z * z;
        let largest = max(part.x, max(part.y, part.z));
        let share = exp(part - largest);
        total += largest + log(share.x + share.y + share.z);
    }
    return total;
}
