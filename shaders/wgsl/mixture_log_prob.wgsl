// log p_k = log_norm_k - 1/2 sum_j y[k][j]^2;  log_q = logsumexp_k log p_k - log_det
// with `gradient`: w_rho[k] = w_eff exp(log p_k - logsumexp)
// One invocation per four samples walks over the components, twice: log p_k is kept in w_rho between the two.
{% include "include/batch.wgsl" %}
{% include "include/safe_math.wgsl" %}
struct Shape {
    dim: u32,
    n_components: u32,
    n_blocks: u32, // ceil(D / 4)
    stride4: u32,  // vec4s per component
    flow4: u32,    // vec4s from one flow's mixture to the next's
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> mixture: array<vec4<f32>>;      // (flows, K, stride4), log_norm in .x of the first
@group(0) @binding(3) var<storage, read> y: array<vec4<f32>>;            // (K, n_blocks * 4, n_vec4)
@group(0) @binding(4) var<storage, read> log_det: array<vec4<f32>>;      // (n_vec4)
@group(0) @binding(5) var<storage, read_write> log_q: array<vec4<f32>>;  // (n_vec4)
@group(0) @binding(6) var<storage, read_write> w_rho: array<vec4<f32>>;  // (K, n_vec4)
{% if gradient %}
@group(0) @binding(7) var<storage, read> weight: array<vec4<f32>>;            // (n_vec4)
@group(0) @binding(8) var<storage, read> log_inv_proposal: array<vec4<f32>>;  // (n_vec4)
@group(0) @binding(9) var<storage, read_write> w_eff: array<vec4<f32>>;       // (n_vec4)
{% include "include/effective_weight.wgsl" %}
{% endif %}

@compute @workgroup_size({{ workgroup }})
fn mixture_log_prob(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_components = shape.n_components + (group.z >> 16u); // see include/batch.wgsl
    let dim = shape.dim + (group.z >> 16u); // see include/batch.wgsl
    let i = group.z * batch.flow_vec4 + id.x;
    let flow4 = (batch.first_flow + group.z) * shape.flow4;
    let n_vec4 = batch.n_vec4;
    if id.x >= batch.flow_vec4 {
        return;
    }
    var largest = vec4<f32>(-3.0e38);
    for (var k = 0u; k < n_components; k = k + 1u) {
        var square = vec4<f32>(0.0);
        for (var j = 0u; j < dim; j = j + 1u) {
            let v = y[(k * shape.n_blocks * 4u + j) * n_vec4 + i];
            square += v * v;
        }
        let term = vec4<f32>(mixture[flow4 + k * shape.stride4].x) - 0.5 * square;
        w_rho[k * n_vec4 + i] = term;
        largest = max(largest, term);
    }
    var total = vec4<f32>(0.0);
    for (var k = 0u; k < n_components; k = k + 1u) {
        total += safe_exp(w_rho[k * n_vec4 + i] - largest);
    }
    let log_base = largest + log(total);
    let log_prob = log_base - log_det[i];
    log_q[i] = log_prob;
{% if gradient %}
    let w = effective_weight(i, weight[i], log_inv_proposal[i], log_prob);
    w_eff[i] = w;
    for (var k = 0u; k < n_components; k = k + 1u) {
        let at = k * n_vec4 + i;
        w_rho[at] = w * safe_exp(w_rho[at] - log_base);
    }
{% endif %}
}
