// With s, t saved by fused_inverse, and x holding the layer's base-side value u:
//   delta_t = -g_B exp(-s);  delta_s = (w_eff - g_B u_B) (1 - (s / s_max)^2);  x_B = u_B exp(s) + t;  g_B = g_B exp(-s)
//   delta2 = act'(a2) (W3^T delta);  delta1 = act'(a1) (W2^T delta2);  g_A, g_context += W1^T delta1
//   partial: dW1 = delta1 [x_A, c]^T, db1 = sum delta1, db3 = sum delta
// Hidden activations are recomputed; one workgroup sums one chunk of samples, lanes in the fixed order of the subgroup.
// A sample of weight zero adds nothing, even where its coordinates overflow, so its deltas are set, not computed.
{% from "include/fused_macros.wgsl" import weight, vec4s %}
{% include "include/fused.wgsl" %}
@group(0) @binding(2) var<storage, read> index: array<u32>;  // coordinates of A, then of B
@group(0) @binding(3) var<storage, read> stream: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;       // (D, n_vec4)
@group(0) @binding(5) var<storage, read_write> g: array<vec4<f32>>;       // (D, n_vec4)
@group(0) @binding(6) var<storage, read> saved: array<vec4<f32>>;         // (2 n_b, n_vec4): s, then t
@group(0) @binding(7) var<storage, read> w_eff: array<vec4<f32>>;         // (n_vec4)
@group(0) @binding(8) var<storage, read_write> delta: array<vec4<f32>>;   // (2 n_b, n_vec4)
@group(0) @binding(9) var<storage, read_write> partial: array<f32>;       // (n_chunks, stride)
{% if n_c > 0 %}
@group(0) @binding(10) var<storage, read> context: array<vec4<f32>>;              // (C, n_vec4)
@group(0) @binding(11) var<storage, read_write> g_context: array<vec4<f32>>;   // (C, n_vec4)
{% endif %}
{% set n_in = n_a + n_c %}
{% set n_out = 2 * n_b %}
{% set per = n_in + 1 %}
{% set block = rows * (h1 + 1 + n_out) %}

@compute @workgroup_size({{ lanes }})
fn fused_backward_data(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let n_vec4 = batch.n_vec4;
    let chunk = chunk_of(group.y);
    let origin = chunk.flow * shape.flow4 + lane;
    let zero = vec4<f32>(0.0);
    let one = vec4<f32>(1.0);
{% for j in range(h1) %}
{% for a in range(per) %}
    var sum{{ j }}_{{ a }} = 0.0;
{% endfor %}
{% endfor %}
{% for k in range(n_out) %}
    var sum_out{{ k }} = 0.0;
{% endfor %}
    for (var first = chunk.begin; first < chunk.end; first = first + {{ lanes * vectors }}u) {
    let i0 = first + lane;
    var base = origin;
{% for v in range(vectors) %}
{% for a in range(n_in) %}
    let in{{ a }}_{{ v }} = {% if a < n_a %}x[index[{{ a }}] * n_vec4 + i0 + {{ v * lanes }}u]{% else %}context[{{ a - n_a }}u * n_vec4 + i0 + {{ v * lanes }}u]{% endif %};
{% endfor %}
    let weight_{{ v }} = w_eff[i0 + {{ v * lanes }}u];
{% for b in range(n_b) %}
    var delta{{ b }}_{{ v }}: vec4<f32>;
    var delta{{ n_b + b }}_{{ v }}: vec4<f32>;
    {
    let s = saved[{{ b }}u * n_vec4 + i0 + {{ v * lanes }}u];
    let t = saved[{{ n_b + b }}u * n_vec4 + i0 + {{ v * lanes }}u];
    let at = index[{{ n_a + b }}] * n_vec4 + i0 + {{ v * lanes }}u;
    let u = x[at];
    let g_u = g[at];
    let ratio = s * shape.inv_s_max;
    let scale = safe_exp(-s);
    let g_v = g_u * scale;
    delta{{ b }}_{{ v }} = select((weight_{{ v }} - g_u * u) * (one - ratio * ratio), zero, weight_{{ v }} == zero);
    delta{{ n_b + b }}_{{ v }} = select(-g_v, zero, weight_{{ v }} == zero);
    x[at] = u / scale + t;
    g[at] = g_v;
    delta[{{ b }}u * n_vec4 + i0 + {{ v * lanes }}u] = delta{{ b }}_{{ v }};
    delta[{{ n_b + b }}u * n_vec4 + i0 + {{ v * lanes }}u] = delta{{ n_b + b }}_{{ v }};
    sum_out{{ b }} += dot(delta{{ b }}_{{ v }}, one);
    sum_out{{ n_b + b }} += dot(delta{{ n_b + b }}_{{ v }}, one);
    }
{% endfor %}
{% for j in range(h1) %}
    var e{{ j }}_{{ v }} = zero;
{% endfor %}
{% endfor %}
{% include "include/fused_first.wgsl" %}
    for (var block = 0u; block < {{ h2 // rows }}u; block = block + 1u) {
{% for c in range((block + 4 * lanes - 1) // (4 * lanes)) %}
    let s{{ c }} = stream[base + {{ c * lanes }}u];
{% endfor %}
{% include "include/fused_second.wgsl" %}
{% for o in range(rows) %}
{% for k in range(n_out) %}
    let v{{ o }}_{{ k }} = {{ weight(rows * (h1 + 1) + o * n_out + k) }};
{% endfor %}
{% for v in range(vectors) %}
{% if activation == "silu" %}
    let q{{ o }}_{{ v }} = activation_grad(a{{ o }}_{{ v }}) * ({% for k in range(n_out) %}{{ " + " if k }}v{{ o }}_{{ k }} * delta{{ k }}_{{ v }}{% endfor %});
{% else %}
    let q{{ o }}_{{ v }} = activation_grad(activate(a{{ o }}_{{ v }})) * ({% for k in range(n_out) %}{{ " + " if k }}v{{ o }}_{{ k }} * delta{{ k }}_{{ v }}{% endfor %});
{% endif %}
{% endfor %}
{% endfor %}
{% for j in range(h1) %}
{% for v in range(vectors) %}
    e{{ j }}_{{ v }} += {% for o in range(rows) %}{{ " + " if o }}w{{ o }}_{{ j }} * q{{ o }}_{{ v }}{% endfor %};
{% endfor %}
{% endfor %}
    base += {{ vec4s(block) }}u;
    }
    base = origin;
{% for v in range(vectors) %}
{% for a in range(n_in) %}
    var below{{ a }}_{{ v }} = zero;
{% endfor %}
{% endfor %}
{% for c in range((h1 * per + 4 * lanes - 1) // (4 * lanes)) %}
    let s{{ c }} = stream[base + {{ c * lanes }}u];
{% endfor %}
{% for j in range(h1) %}
    {
{% for a in range(n_in) %}
    let w{{ a }} = {{ weight(j * per + a) }};
{% endfor %}
{% for v in range(vectors) %}
    let delta1_{{ v }} = e{{ j }}_{{ v }} * {% if activation == "silu" %}d{{ j }}_{{ v }}{% else %}activation_grad(h{{ j }}_{{ v }}){% endif %};
{% for a in range(n_in) %}
    sum{{ j }}_{{ a }} += dot(delta1_{{ v }}, in{{ a }}_{{ v }});
    below{{ a }}_{{ v }} += w{{ a }} * delta1_{{ v }};
{% endfor %}
    sum{{ j }}_{{ n_in }} += dot(delta1_{{ v }}, one);
{% endfor %}
    }
{% endfor %}
{% for v in range(vectors) %}
{% for a in range(n_in) %}
{% if a < n_a %}
    g[index[{{ a }}] * n_vec4 + i0 + {{ v * lanes }}u] += below{{ a }}_{{ v }};
{% else %}
    g_context[{{ a - n_a }}u * n_vec4 + i0 + {{ v * lanes }}u] += below{{ a }}_{{ v }};
{% endif %}
{% endfor %}
{% endfor %}
    }
    let to = group.y * shape.stride;
{% for j in range(h1) %}
    {
{% for a in range(per) %}
    let total{{ a }} = subgroupAdd(sum{{ j }}_{{ a }});
{% endfor %}
    if lane == 0u {
{% for a in range(n_in) %}
        partial[to + {{ j * n_in + a }}u] = total{{ a }};
{% endfor %}
        partial[to + {{ h1 * n_in + j }}u] = total{{ n_in }};
    }
    }
{% endfor %}
{% for k in range(n_out) %}
    {
    let total = subgroupAdd(sum_out{{ k }});
    if lane == 0u {
        partial[to + {{ h1 * per + h2 * (h1 + 1) + n_out * h2 + k }}u] = total;
    }
    }
{% endfor %}
}
