// h{j}_{v} = act(a), a = b1[j] + sum_a W1[j][a] in{a}; with `slope`, d{j}_{v} = act'(a) where h does not tell it.
{% from "include/fused_macros.wgsl" import weight, vec4s %}
{% set n_in = n_a + n_c %}
{% set per = n_in + 1 %}
{% for v in range(vectors) %}
{% for j in range(h1) %}
    var h{{ j }}_{{ v }}: vec4<f32>;
{% if slope and activation == "silu" %}
    var d{{ j }}_{{ v }}: vec4<f32>;
{% endif %}
{% endfor %}
{% endfor %}
    {
{% for c in range((h1 * per + 4 * lanes - 1) // (4 * lanes)) %}
    let s{{ c }} = stream[base + {{ c * lanes }}u];
{% endfor %}
{% for j in range(h1) %}
    {
{% for a in range(per) %}
    let w{{ a }} = {{ weight(j * per + a) }};
{% endfor %}
{% for v in range(vectors) %}
    let a{{ v }} = w{{ n_in }}{% for a in range(n_in) %} + w{{ a }} * in{{ a }}_{{ v }}{% endfor %}{% if n_in == 0 %} + vec4<f32>(0.0){% endif %};
    h{{ j }}_{{ v }} = activate(a{{ v }});
{% if slope and activation == "silu" %}
    d{{ j }}_{{ v }} = activation_grad(a{{ v }});
{% endif %}
{% endfor %}
    }
{% endfor %}
    }
    base += {{ vec4s(h1 * per) }}u;
