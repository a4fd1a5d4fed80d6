// A mixture in the flat parameters, from `base` on: logits (K), means (K, D), then log scales (K, D) or rows of the
// Cholesky factor with the logarithm of its diagonal (K, D (D + 1) / 2). And where an entry of A_k = L_k^-1 lies in the
// packed mixture of include/mixture.wgsl, in floats from the component's start. y is the flow; each has its own K.
{% include "include/safe_math.wgsl" %}
struct Shape {
    base: u32,
    dim: u32,
    stride: u32,         // floats per component of the packed mixture
    inverse_offset: u32, // floats
    weight_floor: f32,
    log_norm: f32,       // -D/2 log(2 pi)
    n_state: u32,        // floats from one flow's to the next's: state,
    n_packed: u32,       // packed parameters
    n_grads: u32,        // gradients as kernels write them
    n_params: u32,       // the flat gradient
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> state: array<f32>;      // (flows, n_state), the flat parameters first
@group(0) @binding(2) var<storage, read> components: array<u32>; // (flows): K
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
// The first scale of component k of `n`; the logits begin at `base`.
fn first_scale(base: u32, n: u32, k: u32) -> u32 {
    return base + n * (1u + shape.dim) + k * n_scales();
}
// (largest logit, sum of exp(logit - largest)) of `n` components.
fn logit_sum(base: u32, n: u32) -> vec2<f32> {
    var largest = state[base];
    for (var k = 1u; k < n; k = k + 1u) {
        largest = max(largest, state[base + k]);
    }
    var total = 0.0;
    for (var k = 0u; k < n; k = k + 1u) {
        total += scalar_exp(state[base + k] - largest);
    }
    return vec2<f32>(largest, total);
}
fn softmax(base: u32, k: u32, sum: vec2<f32>) -> f32 {
    return scalar_exp(state[base + k] - sum.x) / sum.y;
}
