// g[m] = sum_k w_rho[k] sum_{j >= m} A_k[j][m] y[k][j] = -w_eff d log p(z) / dz_m
// One invocation per coordinate and four samples; rows of A_k come four at a time.
{% include "include/batch.wgsl" %}
{% include "include/mixture.wgsl" %}
@group(0) @binding(2) var<storage, read> mixture: array<vec4<f32>>;  // (flows, K, stride4)
@group(0) @binding(3) var<storage, read> y: array<vec4<f32>>;        // (K, n_blocks * 4, n_vec4)
@group(0) @binding(4) var<storage, read> w_rho: array<vec4<f32>>;    // (K, n_vec4)
@group(0) @binding(5) var<storage, read_write> g: array<vec4<f32>>;  // (D, n_vec4)

@compute @workgroup_size({{ workgroup }})
fn mixture_grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_components = shape.n_components + (group.z >> 16u); // see include/batch.wgsl
    let n_blocks = shape.n_blocks + (group.z >> 16u); // see include/batch.wgsl
    let i = group.z * batch.flow_vec4 + id.x;
    let flow4 = (batch.first_flow + group.z) * shape.flow4;
    let m = id.y;
    let n_vec4 = batch.n_vec4;
    if id.x >= batch.flow_vec4 || m >= shape.dim {
        return;
    }
    let zero = vec4<f32>(0.0);
    var sum = zero;
    for (var k = 0u; k < n_components; k = k + 1u) {
        let inverse = flow4 + k * shape.stride4 + shape.inverse_offset4;
        var inner = zero;
{% if full %}
        for (var b = m / 4u; b < n_blocks; b = b + 1u) {
            let at = (k * n_blocks + b) * 4u * n_vec4 + i;
            let a = mixture[inverse + block_start(b) + m];
            inner += (a.x * y[at] + a.y * y[at + n_vec4]) + (a.z * y[at + 2u * n_vec4] + a.w * y[at + 3u * n_vec4]);
        }
{% else %}
        inner = mixture[inverse + block_start(m / 4u)][m % 4u] * y[(k * n_blocks * 4u + m) * n_vec4 + i];
{% endif %}
        let w = w_rho[k * n_vec4 + i];
        sum += select(w * inner, zero, w == zero);
    }
    g[m * n_vec4 + i] = sum;
}
