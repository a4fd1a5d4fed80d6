// output[o][i] = activate(bias[o] + sum_k matrix[o][k] * input[k][i])        (and kept = the argument, if `keep`)
// matrix (n_out padded to 16, n_in padded to 4) and bias (n_out padded to 16) lie in the layer's parameters; the padding
// is zero, so padded rows come out as activate(0) = 0 and the next layer may read them.
// Tiling: one invocation makes a register tile of rows x samples, because loads, not arithmetic, are the price.
{% include "include/batch.wgsl" %}
struct Shape {
    matrix_offset: u32, // in vec4s
    bias_offset: u32,   // in vec4s
    n_in4: u32,         // ceil(n_in / 4)
    n_rows: u32,        // n_out rounded up to 4: rows that are written
    flow4: u32,         // vec4s from one flow's parameters to the next's
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> matrix: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;         // (n_in padded to 4, n_vec4)
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;  // (n_rows, n_vec4)
{% if keep %}
@group(0) @binding(5) var<storage, read_write> kept: array<vec4<f32>>;    // (n_rows, n_vec4)
{% endif %}
{% include "include/activation.wgsl" %}

@compute @workgroup_size({{ workgroup }})
fn linear_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
{% include "include/linear_tile.wgsl" %}
{% for o in range(tile) %}
    if first_row + {{ o }}u < shape.n_rows {
        let bias = matrix[flow4 + shape.bias_offset + (first_row + {{ o }}u) / 4u][(first_row + {{ o }}u) % 4u];
{% for v in range(vectors) %}
        if column_{{ v }} < flow_vec4 {
            let a = acc{{ o }}_{{ v }} + vec4<f32>(bias);
            let at = (first_row + {{ o }}u) * n_vec4 + read_{{ v }};
            output[at] = activate(a);
{% if keep %}
            kept[at] = a;
{% endif %}
        }
{% endfor %}
    }
{% endfor %}
}
