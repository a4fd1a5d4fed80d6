// partial[chunk][k * n_statistics + e] = sum_{i in chunk} w_rho[k] * f_e(y[k]), e running over
// 1, then y_j (D), then y_j^2 (diagonal) or y_j y_m for m <= j in row-major order (full).
// One invocation per component and entry; chunks are added by reduce_partials.
{% include "include/batch.wgsl" %}
{% include "include/chunk.wgsl" %}
struct Shape {
    dim: u32,
    n_components: u32,
    n_blocks: u32,     // ceil(D / 4)
    n_statistics: u32, // entries per component
    stride: u32,       // floats per chunk of partial
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>;        // (K, n_blocks * 4, n_vec4)
@group(0) @binding(3) var<storage, read> w_rho: array<vec4<f32>>;    // (K, n_vec4)
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;  // (n_chunks, stride)

@compute @workgroup_size({{ workgroup }})
fn mixture_statistics(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let index = group.x * {{ workgroup }}u + lane.x;
    if index >= shape.n_components * shape.n_statistics {
        return;
    }
    let k = index / shape.n_statistics;
    let entry = index % shape.n_statistics;
    // Factors beyond the entry's own are multiplied as one, so that all entries run the same loop.
    var use_row = 0.0;
    var use_column = 0.0;
    var row = 0u;
    var column = 0u;
    if entry > 0u {
        use_row = 1.0;
        row = entry - 1u;
    }
    if entry > shape.dim {
        use_column = 1.0;
        row = entry - 1u - shape.dim;
        column = row;
{% if full %}
        let flat = row;
        row = 0u;
        loop {
            if (row + 1u) * (row + 2u) / 2u > flat {
                break;
            }
            row = row + 1u;
        }
        column = flat - row * (row + 1u) / 2u;
{% endif %}
    }
    let one = vec4<f32>(1.0);
    let n_vec4 = batch.n_vec4;
    let first = k * shape.n_blocks * 4u;
    let chunk = chunk_of(group.y);
    var sum = vec4<f32>(0.0);
    for (var i = chunk.begin; i < chunk.end; i = i + 1u) {
        let w = w_rho[k * n_vec4 + i];
        let left = select(one, y[(first + row) * n_vec4 + i], vec4<bool>(use_row == 1.0));
        let right = select(one, y[(first + column) * n_vec4 + i], vec4<bool>(use_column == 1.0));
        sum += select(w * left * right, vec4<f32>(0.0), w == vec4<f32>(0.0));
    }
    partial[group.y * shape.stride + index] = (sum.x + sum.y) + (sum.z + sum.w);
}
