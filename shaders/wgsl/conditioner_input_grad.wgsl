// g[index[r]] += input[r] for r < n_identity, g_context[r - n_identity] += input[r] for r < n_in
// The transpose of conditioner_input; each row has one owner, so no two invocations add to one place.
{% include "include/batch.wgsl" %}
struct Shape {
    n_identity: u32,
    n_in: u32, // n_identity + context rows
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> index: array<u32>;                  // coordinates of A, then of B
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;            // (n_in padded to 4, n_vec4)
@group(0) @binding(4) var<storage, read_write> g: array<vec4<f32>>;          // (D, n_vec4)
@group(0) @binding(5) var<storage, read_write> g_context: array<vec4<f32>>;  // (C, n_vec4)

@compute @workgroup_size({{ workgroup }})
fn conditioner_input_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let row = id.y;
    if i >= batch.n_vec4 || row >= shape.n_in {
        return;
    }
    let value = input[row * batch.n_vec4 + i];
    if row < shape.n_identity {
        g[index[row] * batch.n_vec4 + i] += value;
    } else {
        g_context[(row - shape.n_identity) * batch.n_vec4 + i] += value;
    }
}
