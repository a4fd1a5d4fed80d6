// x_B = (x_B - t) exp(-s)
// with (s_raw, t) = W3 act(W2 act(W1 [x_A, c] + b1) + b2) + b3, s = s_max tanh(s_raw / s_max);  log_det += sum_j s_j
// One dispatch for the whole layer; the first hidden layer stays in registers, the second is used block by block.
{% from "include/fused_macros.wgsl" import weight %}
{% include "include/fused.wgsl" %}
@group(0) @binding(2) var<storage, read> index: array<u32>;  // coordinates of A, then of B
@group(0) @binding(3) var<storage, read> stream: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;         // (D, n_vec4)
@group(0) @binding(5) var<storage, read_write> log_det: array<vec4<f32>>;   // (n_vec4)
{% if n_c > 0 %}
@group(0) @binding(7) var<storage, read> context: array<vec4<f32>>;         // (C, n_vec4)
{% endif %}
@group(0) @binding(6) var<storage, read_write> saved: array<vec4<f32>>;     // (2 n_b, n_vec4) s, then t, for the backward pass

@compute @workgroup_size({{ lanes }})
fn fused_inverse(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let n_vec4 = batch.n_vec4;
    let chunk = chunk_of(group.y);
    let origin = chunk.flow * shape.flow4 + lane;
    for (var first = chunk.begin; first < chunk.end; first = first + {{ lanes * vectors }}u) {
    let i0 = first + lane;
{% include "include/fused_conditioner.wgsl" %}
{% for v in range(vectors) %}
    var sum_{{ v }} = log_det[i0 + {{ v * lanes }}u];
{% for b in range(n_b) %}
    {
    let s = shape.s_max * safe_tanh((out{{ b }}_{{ v }} + {{ weight(b) }}) * shape.inv_s_max);
    let t = out{{ n_b + b }}_{{ v }} + {{ weight(n_b + b) }};
    let at = index[{{ n_a + b }}] * n_vec4 + i0 + {{ v * lanes }}u;
    x[at] = (x[at] - t) * safe_exp(-s);
    sum_{{ v }} += s;
    saved[{{ b }}u * n_vec4 + i0 + {{ v * lanes }}u] = s;
    saved[{{ n_b + b }}u * n_vec4 + i0 + {{ v * lanes }}u] = t;
    }
{% endfor %}
    log_det[i0 + {{ v * lanes }}u] = sum_{{ v }};
{% endfor %}
    }
}
