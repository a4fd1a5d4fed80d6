// log_prob[i] = log_q[i]; -inf where theta lay on or outside a bound, NaN where it was no number: see outer_to_flow.
// One invocation per four samples writes the caller's array, whose length is no multiple of four.
{% include "include/batch.wgsl" %}
struct Shape {
    dim: u32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> log_q: array<vec4<f32>>;       // (n_vec4)
@group(0) @binding(3) var<storage, read_write> log_prob: array<u32>;    // (n_samples), bits of f32

@compute @workgroup_size({{ workgroup }})
fn outer_log_prob(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let i = id.x;
    if i >= batch.n_vec4 || shape.dim == 0u {
        return;
    }
    let value = log_q[i];
    for (var k = 0u; k < 4u + group.z; k = k + 1u) {
        let sample = 4u * i + k;
        if sample < batch.n_samples {
            // The bits are chosen as integers: a compiler may assume that floats are finite.
            let outside = select(bitcast<u32>(value[k]), 0xff800000u, value[k] < -1.0e38);
            log_prob[sample] = select(outside, 0x7fc00000u, value[k] < -2.5e38);
        }
    }
}
