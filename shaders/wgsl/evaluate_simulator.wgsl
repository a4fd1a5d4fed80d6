// x[i] = what the user's simulate says of theta[i], with the random numbers of simulation first + i; one invocation per
// simulation, rows as the host has them: the time is the user's arithmetic, not the reads.
{% include "include/likelihood_data.wgsl" %}
{% include "include/likelihood_native.wgsl" %}
{% include "include/likelihood_math.wgsl" %}
{% include "include/random.wgsl" %}
struct LwflowShape {
    n_samples: u32,
    seed_low: u32,
    seed_high: u32,
    first_low: u32,  // number of the first simulation
    first_high: u32,
}
@group(0) @binding(0) var<uniform> lwflow_shape: LwflowShape;
@group(0) @binding(1) var<storage, read> lwflow_theta: array<f32>;      // (n_samples, D)
@group(0) @binding(2) var<storage, read_write> lwflow_x: array<f32>;    // (n_samples, X)
{% set data_binding = 3 %}
{% include "include/likelihood_table.wgsl" %}
{{ user }}
@compute @workgroup_size({{ workgroup }})
fn evaluate_simulator(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let i = id.x;
    if i >= lwflow_shape.n_samples + group.z { // see include/batch.wgsl
        return;
    }
    let low = lwflow_shape.first_low + i;
    let high = lwflow_shape.first_high + select(0u, 1u, low < i);
    var stream: Random;
    stream.key = lwflow_pcg4d(vec4<u32>(low, high, lwflow_shape.seed_low, lwflow_shape.seed_high));
    var theta: array<f32, {{ dim }}>;
    for (var j = 0u; j < {{ dim }}u; j = j + 1u) {
        theta[j] = lwflow_theta[i * {{ dim }}u + j];
    }
    var x = simulate(theta, &stream);
    if stream.invalid != 0u {
        x[0] = lwflow_from_bits(0x7f800000u); // no legal value of a simulator: the host tells theta
    }
    for (var j = 0u; j < {{ n_observed }}u; j = j + 1u) {
        lwflow_x[i * {{ n_observed }}u + j] = x[j];
    }
}
