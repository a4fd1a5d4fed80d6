// output[k][i] = activation_grad(kept[k][i]) * sum_o matrix[k][o] * input[o][i]
// input is the gradient of a linear map's outputs, matrix its transposed weight (n_in padded to 16, n_out padded to 4),
// output the gradient of its input before the activation that made it. Padded rows come out as zero.
// Tiling as in linear_forward.
{% include "include/batch.wgsl" %}
struct Shape {
    matrix_offset: u32, // in vec4s
    n_in4: u32,         // ceil(n_out / 4): the sum runs over the map's outputs
    n_rows: u32,        // n_in rounded up to 4: rows that are written
    flow4: u32,         // vec4s from one flow's parameters to the next's
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> matrix: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;         // (n_out padded to 4, n_vec4)
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;  // (n_rows, n_vec4)
{% if activation != "none" %}
@group(0) @binding(5) var<storage, read> kept: array<vec4<f32>>;          // (n_rows, n_vec4)
{% include "include/activation.wgsl" %}
{% endif %}

@compute @workgroup_size({{ workgroup }})
fn linear_backward_data(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
{% include "include/linear_tile.wgsl" %}
{% for o in range(tile) %}
    if first_row + {{ o }}u < shape.n_rows {
{% for v in range(vectors) %}
        if column_{{ v }} < flow_vec4 {
            let at = (first_row + {{ o }}u) * n_vec4 + read_{{ v }};
{% if activation == "none" %}
            output[at] = acc{{ o }}_{{ v }};
{% else %}
            output[at] = acc{{ o }}_{{ v }} * activation_grad(kept[at]);
{% endif %}
        }
{% endfor %}
    }
{% endfor %}
}
