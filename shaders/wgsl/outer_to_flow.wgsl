// x[j][i] = (bijection_j^-1(theta[i][j]) - location_j) / scale_j;  log_det[i] = log |d theta / d x|
// A theta on or outside a bound, or one that is no number, is told by its log_det: see outer_log_prob. Padding is zero.
// One invocation per four samples walks over the D coordinates and reads the caller's rows.
{% include "include/batch.wgsl" %}
{% include "include/safe_math.wgsl" %}
{% include "include/is_bad.wgsl" %}
{% include "include/outer.wgsl" %}
struct Shape {
    dim: u32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> outer: array<Outer>;              // (D)
@group(0) @binding(3) var<storage, read> theta: array<f32>;                // (n_samples, D)
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;        // (D, n_vec4)
@group(0) @binding(5) var<storage, read_write> log_det: array<vec4<f32>>;  // (n_vec4)

@compute @workgroup_size({{ workgroup }})
fn outer_to_flow(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let i = id.x;
    if i >= batch.n_vec4 {
        return;
    }
    let sample = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
    let given = sample < vec4<u32>(batch.n_samples);
    let row = dim * min(sample, vec4<u32>(batch.n_samples - 1u));
    var outside = vec4<bool>(false);
    var bad = vec4<bool>(false);
    var total = vec4<f32>(0.0);
    for (var j = 0u; j < dim; j = j + 1u) {
        let o = outer[j];
        let at = row + vec4<u32>(j);
        let value = vec4<f32>(theta[at.x], theta[at.y], theta[at.z], theta[at.w]);
        let no_number = vec4<bool>(is_bad(value.x), is_bad(value.y), is_bad(value.z), is_bad(value.w));
        let below = value < vec4<f32>(o.least);
        let above = value > vec4<f32>(o.largest);
        bad = bad | no_number;
        outside = outside | below | above;
        // A place in the middle stands for what has no image, so that all numbers stay finite.
        let inside = given & !(no_number | below | above);
        let middle = select(o.location, 0.5 * o.lower + 0.5 * o.upper, u32(o.kind) >= SOFT_SOFT);
        let one_sided = select(middle, o.lower + 1.0, u32(o.kind) == LOWER_SOFT || u32(o.kind) == LOWER_HARD);
        let safe = select(one_sided, o.upper - 1.0, u32(o.kind) == UPPER_SOFT || u32(o.kind) == UPPER_HARD);
        let mapped = to_real(o, select(vec4<f32>(safe), value, inside));
        x[j * batch.n_vec4 + i] = select(vec4<f32>(0.0), (mapped.value - o.location) / o.scale, inside);
        total += mapped.log_det + o.log_scale;
    }
    total = select(total, vec4<f32>(2.0e38), outside);
    total = select(total, vec4<f32>(3.0e38), bad);
    log_det[i] = select(vec4<f32>(0.0), total, given);
}
