// mixture[k]: log_norm_k = log a_k - sum_j log L_jj - D/2 log(2 pi), mu_k, A_k = L_k^-1 from the flat parameters,
// a_k = floor + (1 - K floor) softmax_k. One invocation per component and column of A_k, by forward substitution;
// padding and the upper triangle are zero from the first packing on.
{% include "include/mixture_params.wgsl" %}
@group(0) @binding(3) var<storage, read_write> mixture: array<f32>;     // (flows, K, stride)

@compute @workgroup_size({{ workgroup }})
fn mixture_pack(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let n_components = components[group.y] + group.z;
    let base = group.y * shape.n_state + shape.base;
    let k = id.x / dim;
    let j = id.x % dim;
    if k >= n_components {
        return;
    }
    let scales = first_scale(base, n_components, k);
    let to = group.y * shape.n_packed + k * shape.stride;
    if j == 0u {
        let a = shape.weight_floor
            + (1.0 - f32(n_components) * shape.weight_floor) * softmax(base, k, logit_sum(base, n_components));
        var sum = 0.0;
        for (var i = 0u; i < dim; i = i + 1u) {
            sum += state[scales + scale_at(i, i)];
        }
        mixture[to] = (log(a) - sum) + shape.log_norm;
    }
    mixture[to + 4u + j] = state[base + n_components + k * dim + j];
    mixture[to + inverse_at(j, j)] = scalar_exp(-state[scales + scale_at(j, j)]);
{% if full %}
    for (var i = j + 1u; i < dim; i = i + 1u) {
        var sum = 0.0;
        for (var m = j; m < i; m = m + 1u) {
            sum -= state[scales + scale_at(i, m)] * mixture[to + inverse_at(m, j)];
        }
        mixture[to + inverse_at(i, j)] = sum * scalar_exp(-state[scales + scale_at(i, i)]);
    }
{% endif %}
}
