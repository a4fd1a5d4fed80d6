// gradient[base ..] of a trainable mixture from its sums n = sum w rho, first = sum w rho y, second = sum w rho y y^T:
//   d/dlogit_k = -(1 - K floor) p_k (n_k / a_k - sum_c p_c n_c / a_c),  a = floor + (1 - K floor) p,  p = softmax
//   d/dmu = -A^T first;  d/dL = -tril(A^T second) + n diag(1 / L), the diagonal times L_jj for its logarithm
// (diagonal: n - second_j). One invocation per parameter.
{% include "include/mixture_params.wgsl" %}
@group(0) @binding(3) var<storage, read> mixture: array<f32>;          // (flows, K, stride)
@group(0) @binding(4) var<storage, read> statistics: array<f32>;       // (flows, K, 1 + D + n_scales)
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;   // (flows, n_params)

@compute @workgroup_size({{ workgroup }})
fn mixture_parameter_grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let n_components = components[group.y] + group.z;
    let base = group.y * shape.n_state + shape.base;
    let packed = group.y * shape.n_packed;
    let sums = group.y * shape.n_grads;
    let scales = n_scales();
    let per = 1u + dim + scales;
    if id.x >= n_components * per {
        return;
    }
    var entry = id.x;
    var value = 0.0;
    if entry < n_components {
        let free = 1.0 - f32(n_components) * shape.weight_floor;
        let sum = logit_sum(base, n_components);
        var mean = 0.0;
        for (var c = 0u; c < n_components; c = c + 1u) {
            let p = softmax(base, c, sum);
            mean += p * statistics[sums + c * per] / (shape.weight_floor + free * p);
        }
        let p = softmax(base, entry, sum);
        value = -free * p * (statistics[sums + entry * per] / (shape.weight_floor + free * p) - mean);
    } else if entry < n_components * (1u + dim) {
        entry = entry - n_components;
        let k = entry / dim;
        let j = entry % dim;
        let first = sums + k * per + 1u;
{% if full %}
        for (var i = j; i < dim; i = i + 1u) {
            value -= mixture[packed + k * shape.stride + inverse_at(i, j)] * statistics[first + i];
        }
{% else %}
        value = -mixture[packed + k * shape.stride + inverse_at(j, j)] * statistics[first + j];
{% endif %}
    } else {
        entry = entry - n_components * (1u + dim);
        let k = entry / scales;
        entry = entry % scales;
        let second = sums + k * per + 1u + dim;
{% if full %}
        var i = 0u;
        loop {
            if scale_at(i + 1u, 0u) > entry {
                break;
            }
            i = i + 1u;
        }
        let j = entry - scale_at(i, 0u);
        for (var m = i; m < dim; m = m + 1u) {
            value -= mixture[packed + k * shape.stride + inverse_at(m, i)] * statistics[second + scale_at(m, j)];
        }
        if i == j {
            value = value * scalar_exp(state[first_scale(base, n_components, k) + entry]) + statistics[sums + k * per];
        }
{% else %}
        value = statistics[sums + k * per] - statistics[second + entry];
{% endif %}
    }
    gradient[group.y * shape.n_params + shape.base + id.x] = value;
}
