// theta[i][j] = bijection_j(location_j + scale_j x[j][i]);  log_prob[i] = log_q[i] - log_det[i] - log |d theta / d x|
// log_q is that of the base at z, log_det that of the layers. One invocation per four samples walks over the D coordinates
// and writes the caller's rows.
{% include "include/batch.wgsl" %}
{% include "include/safe_math.wgsl" %}
{% include "include/outer.wgsl" %}
struct Shape {
    dim: u32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> outer: array<Outer>;             // (D)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;             // (D, n_vec4)
@group(0) @binding(4) var<storage, read> log_det: array<vec4<f32>>;       // (n_vec4)
@group(0) @binding(5) var<storage, read> log_q: array<vec4<f32>>;         // (n_vec4)
@group(0) @binding(6) var<storage, read_write> theta: array<f32>;         // (n_samples, D)
@group(0) @binding(7) var<storage, read_write> log_prob: array<f32>;      // (n_samples)

@compute @workgroup_size({{ workgroup }})
fn outer_from_flow(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let i = id.x;
    if i >= batch.n_vec4 {
        return;
    }
    var total = vec4<f32>(0.0);
    for (var j = 0u; j < dim; j = j + 1u) {
        let o = outer[j];
        let mapped = from_real(o, o.location + o.scale * x[j * batch.n_vec4 + i]);
        total += mapped.log_det + o.log_scale;
        for (var k = 0u; k < 4u; k = k + 1u) {
            let sample = 4u * i + k;
            if sample < batch.n_samples {
                theta[sample * dim + j] = mapped.value[k];
            }
        }
    }
    let value = log_q[i] - log_det[i] - total;
    for (var k = 0u; k < 4u; k = k + 1u) {
        let sample = 4u * i + k;
        if sample < batch.n_samples {
            log_prob[sample] = value[k];
        }
    }
}
