// partial[chunk]: dW2[o][i] = sum delta2[o] h1[i];  db2[o] = sum delta2[o];  dW3[k][o] = sum delta[k] h2[o]
// Here a lane is a row o of W2 (`groups` vectors of rows per workgroup): h1 is computed with lane = sample, and
// each value is then broadcast from its lane, so that nothing is transposed and W2's rows stay in registers.
{% from "include/fused_macros.wgsl" import weight, vec4s %}
{% include "include/fused.wgsl" %}
{% if n_a > 0 %}
@group(0) @binding(6) var<storage, read> index: array<u32>;  // coordinates of A, then of B
{% endif %}
@group(0) @binding(2) var<storage, read> stream: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> rows_of_stream: array<f32>;     // the same buffer, by single weights
{% if n_a > 0 %}
@group(0) @binding(7) var<storage, read> x: array<vec4<f32>>;            // (D, n_vec4)
{% endif %}
@group(0) @binding(4) var<storage, read> delta: array<vec4<f32>>;        // (2 n_b, n_vec4)
@group(0) @binding(5) var<storage, read_write> partial: array<f32>;      // (n_chunks, stride)
{% if n_c > 0 %}
@group(0) @binding({{ 8 if n_a > 0 else 6 }}) var<storage, read> context: array<vec4<f32>>;      // (C, n_vec4)
{% endif %}
{% set n_in = n_a + n_c %}
{% set n_out = 2 * n_b %}
{% set per = n_in + 1 %}
{% set block = rows * (h1 + 1 + n_out) %}

@compute @workgroup_size({{ lanes }})
fn fused_weight_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let n_vec4 = batch.n_vec4;
    let chunk = chunk_of(group.y);
    let origin = chunk.flow * shape.flow4 + lane;
    let base = origin;
{% for c in range((h1 * per + 4 * lanes - 1) // (4 * lanes)) %}
    let s{{ c }} = stream[base + {{ c * lanes }}u];
{% endfor %}
{% for o in range(groups) %}
    let row{{ o }} = group.x * {{ lanes * groups }}u + {{ lanes * o }}u + lane;
    let at{{ o }} = 4u * (chunk.flow * shape.flow4 + {{ vec4s(h1 * per) }}u + (row{{ o }} / {{ rows }}u) * {{ vec4s(block) }}u);
    let in_block{{ o }} = row{{ o }} % {{ rows }}u;
{% for j in range(h1) %}
    let w{{ j }}_{{ o }} = rows_of_stream[at{{ o }} + in_block{{ o }} * {{ h1 }}u + {{ j }}u];
    var sum{{ j }}_{{ o }} = 0.0;
{% endfor %}
    let bias{{ o }} = rows_of_stream[at{{ o }} + {{ rows * h1 }}u + in_block{{ o }}];
    var sum_bias{{ o }} = 0.0;
{% for k in range(n_out) %}
    let v{{ k }}_{{ o }} = rows_of_stream[at{{ o }} + {{ rows * (h1 + 1) }}u + in_block{{ o }} * {{ n_out }}u + {{ k }}u];
    var sum_out{{ k }}_{{ o }} = 0.0;
{% endfor %}
{% endfor %}
    for (var first = chunk.begin; first < chunk.end; first = first + {{ lanes }}u) {
    let i0 = first + lane;
{% for a in range(n_in) %}
    let in{{ a }} = {% if a < n_a %}x[index[{{ a }}] * n_vec4 + i0]{% else %}context[{{ a - n_a }}u * n_vec4 + i0]{% endif %};
{% endfor %}
{% for k in range(n_out) %}
    let delta{{ k }} = delta[{{ k }}u * n_vec4 + i0];
{% endfor %}
    for (var c = 0u; c < 4u; c = c + 1u) {
{% for k in range(n_out) %}
    let e{{ k }} = delta{{ k }}[c];
{% endfor %}
{% for a in range(n_in) %}
    let y{{ a }} = in{{ a }}[c];
{% endfor %}
{% for j in range(0, h1, 4) %}
    let h{{ j }} = activate(vec4<f32>({% for m in range(4) %}{{ ", " if m }}{{ weight((j + m) * per + n_in) }}{% endfor %}){% for a in range(n_in) %} + y{{ a }} * vec4<f32>({% for m in range(4) %}{{ ", " if m }}{{ weight((j + m) * per + a) }}{% endfor %}){% endfor %});
{% endfor %}
{% for sample in range(0, lanes, 2) %}
    {
{% for half in range(2) %}
{% for o in range(groups) %}
    var a{{ half }}_{{ o }} = bias{{ o }};
{% endfor %}
{% endfor %}
{% for j in range(0, h1, 4) %}
{% for half in range(2) %}
    let z{{ half }}_{{ j }} = subgroupShuffle(h{{ j }}, {{ sample + half }}u);
{% for o in range(groups) %}
    a{{ half }}_{{ o }} += (w{{ j }}_{{ o }} * z{{ half }}_{{ j }}.x + w{{ j + 1 }}_{{ o }} * z{{ half }}_{{ j }}.y) + (w{{ j + 2 }}_{{ o }} * z{{ half }}_{{ j }}.z + w{{ j + 3 }}_{{ o }} * z{{ half }}_{{ j }}.w);
{% endfor %}
{% endfor %}
{% endfor %}
{% for half in range(2) %}
{% for k in range(n_out) %}
    let e{{ k }}_{{ half }} = subgroupShuffle(e{{ k }}, {{ sample + half }}u);
{% endfor %}
{% endfor %}
{% for o in range(groups) %}
    let r{{ o }} = activate(vec4<f32>(a0_{{ o }}, a1_{{ o }}, 0.0, 0.0));
    let f{{ o }} = activation_grad({% if activation == "silu" %}vec4<f32>(a0_{{ o }}, a1_{{ o }}, 0.0, 0.0){% else %}r{{ o }}{% endif %});
    let q0_{{ o }} = f{{ o }}.x * ({% for k in range(n_out) %}{{ " + " if k }}v{{ k }}_{{ o }} * e{{ k }}_0{% endfor %});
    let q1_{{ o }} = f{{ o }}.y * ({% for k in range(n_out) %}{{ " + " if k }}v{{ k }}_{{ o }} * e{{ k }}_1{% endfor %});
    sum_bias{{ o }} += q0_{{ o }} + q1_{{ o }};
{% for k in range(n_out) %}
    sum_out{{ k }}_{{ o }} += e{{ k }}_0 * r{{ o }}.x + e{{ k }}_1 * r{{ o }}.y;
{% endfor %}
{% for j in range(0, h1, 4) %}
{% for m in range(4) %}
    sum{{ j + m }}_{{ o }} += q0_{{ o }} * z0_{{ j }}.{{ ["x", "y", "z", "w"][m] }} + q1_{{ o }} * z1_{{ j }}.{{ ["x", "y", "z", "w"][m] }};
{% endfor %}
{% endfor %}
{% endfor %}
    }
{% endfor %}
    }
    }
    let to = group.y * shape.stride;
{% for o in range(groups) %}
{% for j in range(h1) %}
    partial[to + {{ h1 * per }}u + row{{ o }} * {{ h1 }}u + {{ j }}u] = sum{{ j }}_{{ o }};
{% endfor %}
    partial[to + {{ h1 * per + h2 * h1 }}u + row{{ o }}] = sum_bias{{ o }};
{% for k in range(n_out) %}
    partial[to + {{ h1 * per + h2 * (h1 + 1) + k * h2 }}u + row{{ o }}] = sum_out{{ k }}_{{ o }};
{% endfor %}
{% endfor %}
}
