// log_likelihood[i], derived[i, m] = what the user's functions say of theta[i]; one invocation per theta, rows as the host
// has them: the time is the user's arithmetic, not the reads. With `scan` theta[i] is not given but drawn here from the prior,
// and there are no derived quantities.
{% include "include/likelihood_data.wgsl" %}
{% include "include/likelihood_native.wgsl" %}
{% include "include/likelihood_math.wgsl" %}
{% if random %}
{% include "include/random.wgsl" %}
{% endif %}
struct LwflowShape {
    n_samples: u32,
{% if scan %}
    key: u32,
    first_block: u32,
{% endif %}
}
@group(0) @binding(0) var<uniform> lwflow_shape: LwflowShape;
{% if scan %}
@group(0) @binding(1) var<storage, read> lwflow_directions: array<u32>;                // (D, 16)
{% else %}
@group(0) @binding(1) var<storage, read> lwflow_theta: array<f32>;                     // (n_samples, D)
{% endif %}
@group(0) @binding(2) var<storage, read_write> lwflow_log_likelihood: array<f32>;      // (n_samples)
{% if scan %}
@group(0) @binding(3) var<storage, read> lwflow_quantiles: array<vec4<f32>>;           // (D, n_cubics)
{% include "include/scan_draw.wgsl" %}
{% elif n_derived > 0 %}
@group(0) @binding(3) var<storage, read_write> lwflow_derived: array<f32>;             // (n_samples, M)
{% endif %}
{% set data_binding = 4 if scan or n_derived > 0 else 3 %}
{% include "include/likelihood_table.wgsl" %}
{{ user }}
@compute @workgroup_size({{ workgroup }})
fn evaluate_likelihood(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let i = id.x;
    if i >= lwflow_shape.n_samples + group.z { // see include/batch.wgsl
        return;
    }
{% if scan %}
    let theta = lwflow_draw(i);
{% else %}
    var theta: array<f32, {{ dim }}>;
    for (var j = 0u; j < {{ dim }}u; j = j + 1u) {
        theta[j] = lwflow_theta[i * {{ dim }}u + j];
    }
{% endif %}
    lwflow_log_likelihood[i] = log_likelihood(theta);
{% if n_derived > 0 and not scan %}
    let values = derived(theta);
    {% for m in range(n_derived) %}
    lwflow_derived[i * {{ n_derived }}u + {{ m }}u] = values[{{ m }}];
    {% endfor %}
{% endif %}
}
