// v_B = u_B exp(s) + t, s = s_max tanh(s_raw / s_max); log_det += sum_j s_j         (in place: x holds u, then v)
// One invocation per four samples walks over B, so that log_det has one owner and one order of summation.
{% include "include/affine_coupling.wgsl" %}
@group(0) @binding(3) var<storage, read> output: array<vec4<f32>>;         // (2 n_b, n_vec4)
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;        // (D, n_vec4)
@group(0) @binding(5) var<storage, read_write> log_det: array<vec4<f32>>;  // (n_vec4)

@compute @workgroup_size({{ workgroup }})
fn affine_coupling_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_transformed = shape.n_transformed + group.z; // see include/batch.wgsl
    let i = id.x;
    if i >= batch.n_vec4 {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var j = 0u; j < n_transformed; j = j + 1u) {
        let s = shape.s_max * safe_tanh(output[j * batch.n_vec4 + i] * shape.inv_s_max);
        let t = output[(n_transformed + j) * batch.n_vec4 + i];
        let at = index[shape.n_identity + j] * batch.n_vec4 + i;
        x[at] = x[at] * safe_exp(s) + t;
        sum += s;
    }
    log_det[i] += sum;
}
