// output[r] = x[index[r]] for r < n_identity, context[r - n_identity] for r < n_in, else 0 (rows up to a multiple of 4)
// The conditioner reads a dense matrix; gathering it once costs one pass over |A| + C rows.
{% include "include/batch.wgsl" %}
struct Shape {
    n_identity: u32,
    n_in: u32, // n_identity + context rows
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> index: array<u32>;               // coordinates of A, then of B
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;             // (D, n_vec4)
@group(0) @binding(4) var<storage, read> context: array<vec4<f32>>;       // (C, n_vec4)
@group(0) @binding(5) var<storage, read_write> output: array<vec4<f32>>;  // (n_in padded to 4, n_vec4)

@compute @workgroup_size({{ workgroup }})
fn conditioner_input(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let row = id.y;
    if i >= batch.n_vec4 {
        return;
    }
    var value = vec4<f32>(0.0);
    if row < shape.n_identity {
        value = x[index[row] * batch.n_vec4 + i];
    } else if row < shape.n_in {
        value = context[(row - shape.n_identity) * batch.n_vec4 + i];
    }
    output[row * batch.n_vec4 + i] = value;
}
