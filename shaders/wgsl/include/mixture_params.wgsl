// A mixture in the flat parameters, from `base` on: logits (K), means (K, D), then log scales (K, D) or rows of the
// Cholesky factor with the logarithm of its diagonal (K, D (D + 1) / 2). And where an entry of A_k = L_k^-1 lies in the
// packed mixture of include/mixture.wgsl, in floats from the component's start.
{% include "include/safe_math.wgsl" %}
struct Shape {
    base: u32,
    dim: u32,
    n_components: u32,
    stride: u32,         // floats per component of the packed mixture
    inverse_offset: u32, // floats
    weight_floor: f32,
    log_norm: f32,       // -D/2 log(2 pi)
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> state: array<f32>;  // the flat parameters first
fn scalar_exp(x: f32) -> f32 {
    return safe_exp(vec4<f32>(x)).x;
}
{% if full %}
fn n_scales() -> u32 {
    return shape.dim * (shape.dim + 1u) / 2u;
}
fn scale_at(i: u32, j: u32) -> u32 {
    return i * (i + 1u) / 2u + j;
}
fn inverse_at(i: u32, j: u32) -> u32 {
    let b = i / 4u;
    return shape.inverse_offset + 4u * (2u * b * (b + 1u) + j) + i % 4u;
}
{% else %}
fn n_scales() -> u32 {
    return shape.dim;
}
fn scale_at(i: u32, j: u32) -> u32 {
    return i;
}
fn inverse_at(i: u32, j: u32) -> u32 {
    return shape.inverse_offset + i;
}
{% endif %}
// The first scale of component k.
fn first_scale(k: u32) -> u32 {
    return shape.base + shape.n_components * (1u + shape.dim) + k * n_scales();
}
// (largest logit, sum of exp(logit - largest)); `n` is the number of components.
fn logit_sum(n: u32) -> vec2<f32> {
    var largest = state[shape.base];
    for (var k = 1u; k < n; k = k + 1u) {
        largest = max(largest, state[shape.base + k]);
    }
    var total = 0.0;
    for (var k = 0u; k < n; k = k + 1u) {
        total += scalar_exp(state[shape.base + k] - largest);
    }
    return vec2<f32>(largest, total);
}
fn softmax(k: u32, sum: vec2<f32>) -> f32 {
    return scalar_exp(state[shape.base + k] - sum.x) / sum.y;
}
