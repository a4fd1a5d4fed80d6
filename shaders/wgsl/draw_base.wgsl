// z = mean_k + L_k n with n standard normal and component k by its weight; sample i is a function of seed and i alone.
// One invocation per four samples, one after another: components differ between neighbours.
{% include "include/batch.wgsl" %}
struct Shape {
    dim: u32,
    n_components: u32,
    stride: u32,      // floats per component
    seed_low: u32,
    seed_high: u32,
    first: u32,       // number of the first sample
}
@group(0) @binding(1) var<uniform> shape: Shape;
// (K, stride): sum of the weights up to and with k; mean (D); L by rows of its lower triangle.
@group(0) @binding(2) var<storage, read> components: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;      // (D, n_vec4 * 4)

{% include "include/random_bits.wgsl" %}
@compute @workgroup_size({{ workgroup }})
fn draw_base(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let n_components = shape.n_components + group.z;
    if id.x >= batch.n_vec4 {
        return;
    }
    let n_padded = batch.n_vec4 * 4u;
    for (var i = 4u * id.x; i < 4u * id.x + 4u; i = i + 1u) {
        let sample = shape.first + i;
        let pick = lwflow_pcg4d(vec4<u32>(sample, 0xffffffffu, shape.seed_low, shape.seed_high));
        let u = f32(pick.x >> 8u) * 5.9604645e-8;
        var k = 0u;
        while k + 1u < n_components && u >= components[k * shape.stride] {
            k = k + 1u;
        }
        let mean = k * shape.stride + 1u;
        let factor = mean + dim;
        for (var j = 0u; j < dim; j = j + 1u) {
            let bits = lwflow_pcg4d(vec4<u32>(sample, j / 4u, shape.seed_low, shape.seed_high));
            z[j * n_padded + i] = lwflow_normal_of(bits[j % 4u]);
        }
        // From the last coordinate down, each needs only normals that are still there.
        for (var left = dim; left > 0u; left = left - 1u) {
            let j = left - 1u;
            var sum = components[mean + j];
            for (var m = 0u; m <= j; m = m + 1u) {
                sum += components[factor + j * (j + 1u) / 2u + m] * z[m * n_padded + i];
            }
            z[j * n_padded + i] = sum;
        }
    }
}
