fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    var x: array<f32, X>;
    for (var k = 0u; k < X; k++) {
        x[k] = theta[0] + theta[1] * f32(k) + 0.5 * normal(stream);
    }
    return x;
}
