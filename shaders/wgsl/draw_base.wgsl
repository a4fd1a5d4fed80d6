// z = mean_k + L_k n with n standard normal and component k by its weight; sample i is a function of seed and i alone.
// Random bits by the hash pcg4d (Jarzynski and Olano 2020), normals by the quantile of Wichura 1988 (AS 241, PPND7) of the
// nearer tail's mass. One invocation per four samples, one after another: components differ between neighbours.
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

fn pcg4d(bits: vec4<u32>) -> vec4<u32> {
    var v = bits * 1664525u + vec4<u32>(1013904223u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v = v ^ (v >> vec4<u32>(16u));
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}
// Mass below or above in (0, 1/2), of 31 bits; the last bit says which.
fn normal_of(bits: u32) -> f32 {
    let p = (f32(bits >> 1u) + 0.5) * 2.3283064e-10;
    let q = 0.5 - p;
    var value = 0.0;
    if q <= 0.425 {
        let r = 0.180625 - q * q;
        value = q * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179)
            / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0);
    } else {
        let r = sqrt(-log(p)) - 1.6; // below 5 - 1.6: p is at least 2^-33
        value = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777)
            / ((0.12021132975 * r + 0.73700164250) * r + 1.0);
    }
    return select(value, -value, (bits & 1u) == 0u);
}

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
        let pick = pcg4d(vec4<u32>(sample, 0xffffffffu, shape.seed_low, shape.seed_high));
        let u = f32(pick.x >> 8u) * 5.9604645e-8;
        var k = 0u;
        while k + 1u < n_components && u >= components[k * shape.stride] {
            k = k + 1u;
        }
        let mean = k * shape.stride + 1u;
        let factor = mean + dim;
        for (var j = 0u; j < dim; j = j + 1u) {
            let bits = pcg4d(vec4<u32>(sample, j / 4u, shape.seed_low, shape.seed_high));
            z[j * n_padded + i] = normal_of(bits[j % 4u]);
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
