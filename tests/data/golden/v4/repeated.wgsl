fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    var x: array<f32, X>;
    let n = 1u + min(u32(4.0 * uniform01(stream)), 3u);
    x[0] = f32(n);
    for (var k = 0u; k < n; k++) {
        x[k + 1u] = theta[0] + theta[1] * normal(stream);
    }
    return x;
}
