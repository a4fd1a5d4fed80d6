// Gradient of -w_eff log q through u_B = g(v_B): with l = ln du/dv the gradients of g_u u - w_eff l by v, by the bin's
// slope s and end derivatives d0, d1, by its left knot (x, y), width and height; then through softmax and softplus to
// delta, which has the rows of output, padded with zeros to a multiple of 4. x holds u, then v, restored by the spline's
// own forward map. A sample of weight zero adds nothing, even where its coordinates overflow: its deltas are set.
{% include "include/spline_coupling.wgsl" %}
@group(0) @binding(4) var<storage, read> w_eff: array<vec4<f32>>;        // (n_vec4)
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;      // (D, n_vec4)
@group(0) @binding(6) var<storage, read_write> g: array<vec4<f32>>;      // (D, n_vec4)
@group(0) @binding(7) var<storage, read_write> delta: array<vec4<f32>>;  // ((3 K - 1) n_b padded to 4, n_vec4)

// Rows of K raw values from `first`: sizes before bin k move its left knot, its own size moves what `own` says.
fn softmax_grad(
    first: u32, n_bins: u32, s: Softmax, k: vec4<f32>, knot: vec4<f32>, own: vec4<f32>, mean: vec4<f32>, live: vec4<bool>,
) {
    let zero = vec4<f32>(0.0);
    for (var b = 0u; b < n_bins; b = b + 1u) {
        let at = vec4<f32>(f32(b));
        let share = safe_exp(output[first + b * batch.n_vec4] - s.largest) * s.inverse;
        let by_size = select(select(zero, own, at == k), knot, at < k);
        delta[first + b * batch.n_vec4] = select(zero, shape.size_scale * share * (by_size - mean), live);
    }
}

@compute @workgroup_size({{ workgroup }})
fn spline_coupling_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_transformed = shape.n_transformed + group.z; // see include/batch.wgsl
    let n_bins = shape.n_bins + group.z;
    let i = id.x;
    let n_vec4 = batch.n_vec4;
    if i >= n_vec4 {
        return;
    }
    let zero = vec4<f32>(0.0);
    let w = w_eff[i];
    for (var j = 0u; j < n_transformed; j = j + 1u) {
        let first = j * (3u * n_bins - 1u) * n_vec4 + i;
        let at = index[shape.n_identity + j] * n_vec4 + i;
        let u = x[at];
        let g_u = g[at];
        let widths = softmax(first, n_bins);
        let heights = softmax(first + n_bins * n_vec4, n_bins);
        let bin = find_bin(first, n_bins, widths, heights, u, true);
        let p = point_at_u(bin, u);
        let inside = is_inside(u);
        let live = inside & (w != zero);

        let turn = p.eta - p.xi;
        let by_xi = p.xi * p.xi;
        let by_eta = p.eta * p.eta;
        let log_xi = 2.0 * ((bin.d1 * p.xi + p.s * turn - bin.d0 * p.eta) / p.n
            - (bin.d0 + bin.d1 - 2.0 * p.s) * turn / p.c);
        let log_s = 2.0 * (1.0 / p.s + p.q / p.n - (by_xi + by_eta) / p.c);
        let log_d0 = by_eta / p.n - 2.0 * p.q / p.c;
        let log_d1 = by_xi / p.n - 2.0 * p.q / p.c;
        let ratio = p.s / p.c;
        let g_h = g_u * bin.height;
        let g_v = g_u * (ratio * ratio * p.n) - w * log_xi / bin.width;
        let g_s = g_h * (p.q * (bin.d1 * by_xi - bin.d0 * by_eta) / (p.c * p.c)) - w * log_s;
        let g_d0 = (g_h * (p.q * (1.0 - p.r) / p.c) - w * log_d0) * bin.slope0;
        let g_d1 = (-g_h * (p.q * p.r / p.c) - w * log_d1) * bin.slope1;
        let g_width = -g_v * p.xi - g_s * p.s / bin.width;
        let g_height = g_u * p.r + g_s / bin.width;

        let mean_x = bin.own_x * g_width - bin.before_x * g_v;
        let mean_y = bin.own_y * g_height + bin.before_y * g_u;
        softmax_grad(first, n_bins, widths, bin.k, -g_v, g_width, mean_x, live);
        softmax_grad(first + n_bins * n_vec4, n_bins, heights, bin.k, g_u, g_height, mean_y, live);
        for (var b = 1u; b < n_bins; b = b + 1u) {
            let knot = vec4<f32>(f32(b));
            let value = select(select(zero, g_d1, knot == bin.k + 1.0), g_d0, knot == bin.k);
            delta[first + (2u * n_bins + b - 1u) * n_vec4] = select(zero, value, live);
        }
        g[at] = select(g_u, g_v, inside);
        x[at] = select(u, bin.x + bin.width * p.xi, inside);
    }
    let n_rows = (3u * n_bins - 1u) * n_transformed;
    for (var row = n_rows; row < (n_rows + 3u) / 4u * 4u; row = row + 1u) {
        delta[row * n_vec4 + i] = zero;
    }
}
