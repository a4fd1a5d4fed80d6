fn log_likelihood(theta: array<f32, D>) -> f32 {
    let a = normal_log_pdf(theta[0], -2.0, 0.3) + normal_log_pdf(theta[1], 1.0, 0.3);
    let b = normal_log_pdf(theta[0], 2.0, 0.3) + normal_log_pdf(theta[1], -1.0, 0.3);
    return log_add(a, b) - log(2.0);
}
fn derived(theta: array<f32, D>) -> array<f32, 1> {
    return array<f32, 1>(theta[0] + theta[1]);
}
