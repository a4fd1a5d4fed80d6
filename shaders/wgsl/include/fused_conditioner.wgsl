// out{k}_{v} = sum_o W3[k][o] act(W2 h1 + b2)[o], without b3; leaves the part with b3 in s0, s1, ..
{% from "include/fused_macros.wgsl" import weight, vec4s %}
{% set n_out = 2 * n_b %}
{% set block = rows * (h1 + 1 + n_out) %}
{% for v in range(vectors) %}
{% for a in range(n_a + n_c) %}
    let in{{ a }}_{{ v }} = {% if a < n_a %}x[index[{{ a }}] * n_vec4 + i0 + {{ v * lanes }}u]{% else %}context[{{ a - n_a }}u * n_vec4 + i0 + {{ v * lanes }}u]{% endif %};
{% endfor %}
{% for k in range(n_out) %}
    var out{{ k }}_{{ v }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
    var base = origin;
{% include "include/fused_first.wgsl" %}
    for (var block = 0u; block < {{ h2 // rows }}u; block = block + 1u) {
{% for c in range((block + 4 * lanes - 1) // (4 * lanes)) %}
    let s{{ c }} = stream[base + {{ c * lanes }}u];
{% endfor %}
{% include "include/fused_second.wgsl" %}
{% for o in range(rows) %}
{% for v in range(vectors) %}
    let r{{ o }}_{{ v }} = activate(a{{ o }}_{{ v }});
{% endfor %}
{% endfor %}
{% for k in range(n_out) %}
    {
{% for o in range(rows) %}
    let w{{ o }} = {{ weight(rows * (h1 + 1) + o * n_out + k) }};
{% endfor %}
{% for v in range(vectors) %}
    out{{ k }}_{{ v }} += {% for o in range(rows) %}{{ " + " if o }}w{{ o }} * r{{ o }}_{{ v }}{% endfor %};
{% endfor %}
    }
{% endfor %}
    base += {{ vec4s(block) }}u;
    }
{% for c in range((n_out + 4 * lanes - 1) // (4 * lanes)) %}
    let s{{ c }} = stream[base + {{ c * lanes }}u];
{% endfor %}
