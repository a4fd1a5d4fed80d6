// partial[chunk][weight_offset + o * n_in + k] = sum_{i in chunk} grad_output[o][i] * input[k][i]
// partial[chunk][bias_offset + o]             = sum_{i in chunk} grad_output[o][i]
// in the padded layout of linear_forward's matrix. One invocation makes a `tile` x `tile` block of (o, k) for one chunk
// of samples; chunks are added afterwards in a fixed order by reduce_partials, so no float atomics.
{% include "include/batch.wgsl" %}
{% include "include/chunk.wgsl" %}
struct Shape {
    stride: u32,        // floats per chunk of partial
    weight_offset: u32, // floats, in the layer's gradient region
    bias_offset: u32,   // floats
    n_rows: u32,        // n_out rounded up to 4
    n_columns: u32,     // n_in rounded up to 4; 0 without inputs
    n_column_tiles: u32,
    n_tiles: u32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> grad_output: array<vec4<f32>>;  // (n_rows, n_vec4)
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;        // (n_columns, n_vec4)
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;      // (n_chunks, stride)

@compute @workgroup_size({{ workgroup }})
fn linear_weight_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let index = group.x * {{ workgroup }}u + lane.x;
    if index >= shape.n_tiles {
        return;
    }
    let first_row = (index / shape.n_column_tiles) * {{ tile }}u;
    let first_column = (index % shape.n_column_tiles) * {{ tile }}u;
    let n_vec4 = batch.n_vec4;
    let last_row = shape.n_rows - 1u;
    let last_column = max(shape.n_columns, 1u) - 1u;
{% for t in range(tile) %}
    let row_{{ t }} = min(first_row + {{ t }}u, last_row) * n_vec4;
    let column_{{ t }} = min(first_column + {{ t }}u, last_column) * n_vec4;
    var bias{{ t }} = 0.0;
{% for u in range(tile) %}
    var acc{{ t }}_{{ u }} = 0.0;
{% endfor %}
{% endfor %}
    let chunk = chunk_of(group.y);
    for (var i = chunk.begin; i < chunk.end; i = i + 1u) {
{% for t in range(tile) %}
        let in{{ t }} = input[column_{{ t }} + i];
{% endfor %}
{% for t in range(tile) %}
        let g{{ t }} = grad_output[row_{{ t }} + i];
        bias{{ t }} += (g{{ t }}.x + g{{ t }}.y) + (g{{ t }}.z + g{{ t }}.w);
{% for u in range(tile) %}
        acc{{ t }}_{{ u }} += dot(g{{ t }}, in{{ u }});
{% endfor %}
{% endfor %}
    }
    let base = group.y * shape.stride;
{% for t in range(tile) %}
    if first_row + {{ t }}u < shape.n_rows {
        if first_column == 0u {
            partial[base + shape.bias_offset + first_row + {{ t }}u] = bias{{ t }};
        }
        let at = base + shape.weight_offset + (first_row + {{ t }}u) * shape.n_columns + first_column;
{% for u in range(tile) %}
        if first_column + {{ u }}u < shape.n_columns {
            partial[at + {{ u }}u] = acc{{ t }}_{{ u }};
        }
{% endfor %}
    }
{% endfor %}
}
