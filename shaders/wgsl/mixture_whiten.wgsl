// y[k][j] = sum_{m <= j} A_k[j][m] (z_m - mu_k[m]),  A_k = L_k^-1
// One invocation makes four rows j for four samples; the difference is taken before the product, so that a mean far
// from the origin costs no digits.
{% include "include/batch.wgsl" %}
{% include "include/mixture.wgsl" %}
@group(0) @binding(2) var<storage, read> mixture: array<vec4<f32>>;  // (flows, K, stride4)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;        // (D, n_vec4)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (K, n_blocks * 4, n_vec4)

@compute @workgroup_size({{ workgroup }})
fn mixture_whiten(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + (group.z >> 16u); // see include/batch.wgsl
    let i = group.z * batch.flow_vec4 + id.x;
    let flow4 = (batch.first_flow + group.z) * shape.flow4;
    let k = id.y / shape.n_blocks;
    let b = id.y % shape.n_blocks;
    let n_vec4 = batch.n_vec4;
    if id.x >= batch.flow_vec4 || k >= shape.n_components {
        return;
    }
    let mean = flow4 + k * shape.stride4 + shape.mean_offset4;
    let inverse = flow4 + k * shape.stride4 + shape.inverse_offset4 + block_start(b);
    let out = (k * shape.n_blocks + b) * 4u * n_vec4 + i;
{% if full %}
    var y0 = vec4<f32>(0.0);
    var y1 = vec4<f32>(0.0);
    var y2 = vec4<f32>(0.0);
    var y3 = vec4<f32>(0.0);
    let end = min(4u * b + 4u, dim);
    for (var m = 0u; m < end; m = m + 1u) {
        let difference = x[m * n_vec4 + i] - vec4<f32>(mixture[mean + m / 4u][m % 4u]);
        let a = mixture[inverse + m];
        y0 += a.x * difference;
        y1 += a.y * difference;
        y2 += a.z * difference;
        y3 += a.w * difference;
    }
    y[out] = y0;
    y[out + n_vec4] = y1;
    y[out + 2u * n_vec4] = y2;
    y[out + 3u * n_vec4] = y3;
{% else %}
    let mu = mixture[mean + b];
    let a = mixture[inverse];
    for (var r = 0u; r < 4u; r = r + 1u) {
        let m = 4u * b + r;
        if m < dim {
            y[out + r * n_vec4] = a[r] * (x[m * n_vec4 + i] - vec4<f32>(mu[r]));
        }
    }
{% endif %}
}
