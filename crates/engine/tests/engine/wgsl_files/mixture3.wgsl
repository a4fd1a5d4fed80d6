// Three Gaussians with means theta[0..3], log standard deviations theta[3..6] and two logits theta[6..8].
fn log_likelihood(theta: array<f32, 8>) -> f32 {
    let logits = vec3(theta[6], theta[7], 0.0);
    let norm = log_sum_exp3(logits);
    var sum = 0.0;
    for (var row = 0u; row < n_rows; row++) {
        let x = data(row, 1u);
        var terms: vec3<f32>;
        for (var k = 0; k < 3; k++) {
            let z = (x - theta[k]) * exp(-theta[k + 3]);
            terms[k] = logits[k] - norm - 0.5 * (z * z + LOG_2_PI) - theta[k + 3];
        }
        sum += log_sum_exp3(terms);
    }
    return sum;
}
fn derived(theta: array<f32, D>) -> array<f32, M> {
    let low = min(theta[0], min(theta[1], theta[2]));
    return array<f32, 2>(low, exp(theta[3]));
}
