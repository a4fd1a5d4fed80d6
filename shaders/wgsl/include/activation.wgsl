// The conditioner's activation, chosen by the constant `activation`, and its derivative from what was kept:
// the output for relu and tanh, the input for silu.
{% include "include/safe_math.wgsl" %}
fn activate(a: vec4<f32>) -> vec4<f32> {
{% if activation == "relu" %}
    return max(a, vec4<f32>(0.0));
{% elif activation == "silu" %}
    return a / (vec4<f32>(1.0) + safe_exp(-a));
{% elif activation == "tanh" %}
    return safe_tanh(a);
{% else %}
    return a;
{% endif %}
}
fn activation_grad(kept: vec4<f32>) -> vec4<f32> {
{% if activation == "relu" %}
    return select(vec4<f32>(0.0), vec4<f32>(1.0), kept > vec4<f32>(0.0));
{% elif activation == "silu" %}
    let sigmoid = vec4<f32>(1.0) / (vec4<f32>(1.0) + safe_exp(-kept));
    return sigmoid * (vec4<f32>(1.0) + kept * (vec4<f32>(1.0) - sigmoid));
{% elif activation == "tanh" %}
    return vec4<f32>(1.0) - kept * kept;
{% else %}
    return vec4<f32>(1.0);
{% endif %}
}
