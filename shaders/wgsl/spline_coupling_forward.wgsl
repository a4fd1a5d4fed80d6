// v_B = g^-1(u_B), g the spline of each coordinate; log_det -= sum_j ln du/dv     (in place: x holds u, then v)
// One invocation per four samples walks over B, so that log_det has one owner and one order of summation.
{% include "include/spline_coupling.wgsl" %}
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;        // (D, n_vec4)
@group(0) @binding(5) var<storage, read_write> log_det: array<vec4<f32>>;  // (n_vec4)

@compute @workgroup_size({{ workgroup }})
fn spline_coupling_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_transformed = shape.n_transformed + group.z; // see include/batch.wgsl
    let n_bins = shape.n_bins + group.z;
    let i = id.x;
    let n_vec4 = batch.n_vec4;
    if i >= n_vec4 {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var j = 0u; j < n_transformed; j = j + 1u) {
        let first = j * (3u * n_bins - 1u) * n_vec4 + i;
        let at = index[shape.n_identity + j] * n_vec4 + i;
        let from_x = x[at];
        let widths = softmax(first, n_bins);
        let heights = softmax(first + n_bins * n_vec4, n_bins);
        let bin = find_bin(first, n_bins, widths, heights, from_x, true);
        let p = point_at_u(bin, from_x);
        let inside = is_inside(from_x);
        x[at] = select(from_x, bin.x + bin.width * p.xi, inside);
        sum += select(vec4<f32>(0.0), log_det_of(p), inside);
    }
    log_det[i] += sum;
}
