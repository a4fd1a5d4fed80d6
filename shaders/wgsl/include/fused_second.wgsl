// One block of W2: a{o}_{v} = b2[o] + sum_j W2[o][j] h{j}_{v}, in groups of four terms.
{% from "include/fused_macros.wgsl" import weight %}
{% for o in range(rows) %}
    let b{{ o }} = {{ weight(rows * h1 + o) }};
{% for v in range(vectors) %}
    var a{{ o }}_{{ v }} = vec4<f32>(b{{ o }});
{% endfor %}
{% endfor %}
{% for g in range(h1 // 4) %}
{% for o in range(rows) %}
{% for m in range(4) %}
    let w{{ o }}_{{ 4 * g + m }} = {{ weight(o * h1 + 4 * g + m) }};
{% endfor %}
{% for v in range(vectors) %}
    a{{ o }}_{{ v }} += (w{{ o }}_{{ 4 * g }} * h{{ 4 * g }}_{{ v }} + w{{ o }}_{{ 4 * g + 1 }} * h{{ 4 * g + 1 }}_{{ v }}) + (w{{ o }}_{{ 4 * g + 2 }} * h{{ 4 * g + 2 }}_{{ v }} + w{{ o }}_{{ 4 * g + 3 }} * h{{ 4 * g + 3 }}_{{ v }});
{% endfor %}
{% endfor %}
{% endfor %}
