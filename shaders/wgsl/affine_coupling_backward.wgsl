// delta_t = -g_B exp(-s);  delta_s_raw = (w_eff - g_B u_B) (1 - tanh^2(s_raw / s_max));
// g_B = g_B exp(-s);  x_B = u_B exp(s) + t                          (x holds u, then v again: inputs are recomputed)
// delta has the rows of output, padded with zeros to a multiple of 4. A sample of weight zero adds nothing, even where
// its coordinates overflow, so its deltas are set rather than computed.
{% include "include/affine_coupling.wgsl" %}
@group(0) @binding(3) var<storage, read> output: array<vec4<f32>>;       // (2 n_b, n_vec4)
@group(0) @binding(4) var<storage, read> w_eff: array<vec4<f32>>;        // (n_vec4)
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;      // (D, n_vec4)
@group(0) @binding(6) var<storage, read_write> g: array<vec4<f32>>;      // (D, n_vec4)
@group(0) @binding(7) var<storage, read_write> delta: array<vec4<f32>>;  // (2 n_b padded to 4, n_vec4)

@compute @workgroup_size({{ workgroup }})
fn affine_coupling_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_transformed = shape.n_transformed + group.z; // see include/batch.wgsl
    let i = id.x;
    let n_vec4 = batch.n_vec4;
    if i >= n_vec4 {
        return;
    }
    let zero = vec4<f32>(0.0);
    let w = w_eff[i];
    let n_b = n_transformed;
    for (var j = 0u; j < n_b; j = j + 1u) {
        let tanh_s = safe_tanh(output[j * n_vec4 + i] * shape.inv_s_max);
        let s = shape.s_max * tanh_s;
        let t = output[(n_b + j) * n_vec4 + i];
        let at = index[shape.n_identity + j] * n_vec4 + i;
        let u = x[at];
        let g_u = g[at];
        let g_v = g_u * safe_exp(-s);
        delta[j * n_vec4 + i] = select((w - g_u * u) * (vec4<f32>(1.0) - tanh_s * tanh_s), zero, w == zero);
        delta[(n_b + j) * n_vec4 + i] = select(-g_v, zero, w == zero);
        g[at] = g_v;
        x[at] = u * safe_exp(s) + t;
    }
    if n_b % 2u == 1u {
        delta[2u * n_b * n_vec4 + i] = zero;
        delta[(2u * n_b + 1u) * n_vec4 + i] = zero;
    }
}
