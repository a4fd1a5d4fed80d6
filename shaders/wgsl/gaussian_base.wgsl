// log_q = -1/2 sum_j z_j^2 - D/2 log(2 pi) - log_det;  with `gradient`: g = w_eff z = -w_eff d log p(z) / dz
// One invocation per four samples walks over the D coordinates.
{% include "include/batch.wgsl" %}
{% include "include/safe_math.wgsl" %}
struct Shape {
    dim: u32,
    log_norm: f32, // -D/2 log(2 pi)
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;            // (D, n_vec4)
@group(0) @binding(3) var<storage, read> log_det: array<vec4<f32>>;      // (n_vec4)
@group(0) @binding(4) var<storage, read_write> log_q: array<vec4<f32>>;  // (n_vec4)
{% if gradient %}
@group(0) @binding(5) var<storage, read> weight: array<vec4<f32>>;            // (n_vec4)
@group(0) @binding(6) var<storage, read> log_inv_proposal: array<vec4<f32>>;  // (n_vec4)
@group(0) @binding(7) var<storage, read_write> w_eff: array<vec4<f32>>;       // (n_vec4)
@group(0) @binding(8) var<storage, read_write> g: array<vec4<f32>>;           // (D, n_vec4)
{% include "include/effective_weight.wgsl" %}
{% endif %}

@compute @workgroup_size({{ workgroup }})
fn gaussian_base(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let i = id.x;
    if i >= batch.n_vec4 {
        return;
    }
    var square = vec4<f32>(0.0);
    for (var j = 0u; j < dim; j = j + 1u) {
        let z = x[j * batch.n_vec4 + i];
        square += z * z;
    }
    let log_prob = vec4<f32>(shape.log_norm) - 0.5 * square - log_det[i];
    log_q[i] = log_prob;
{% if gradient %}
    let w = effective_weight(i, weight[i], log_inv_proposal[i], log_prob);
    w_eff[i] = w;
    for (var j = 0u; j < dim; j = j + 1u) {
        let at = j * batch.n_vec4 + i;
        g[at] = select(w * x[at], vec4<f32>(0.0), w == vec4<f32>(0.0));
    }
{% endif %}
}
