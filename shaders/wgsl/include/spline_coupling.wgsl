// What the three spline coupling kernels share: a monotone rational-quadratic spline u = g(v) per transformed coordinate on
// [-bound, bound], the identity outside (Durkan et al. 2019; formulas and names as in crates/model/src/spline.rs).
// output rows (3 K - 1) j ..: K raw widths, K raw heights, K - 1 raw derivatives of transformed coordinate j. The rows are
// read three times (maximum, sum, search) rather than kept, because a private array has a fixed size and costs registers.
{% include "include/batch.wgsl" %}
{% include "include/safe_math.wgsl" %}
{% include "include/safe_log.wgsl" %}
struct Shape {
    n_identity: u32,
    n_transformed: u32, // n_b
    n_bins: u32,        // K
    bound: f32,
    least_size: f32,    // of a bin
    size_scale: f32,    // size = least_size + size_scale * softmax
    shift: f32,         // of raw derivatives
    least_derivative: f32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> index: array<u32>;          // coordinates of A, then of B
@group(0) @binding(3) var<storage, read> output: array<vec4<f32>>;   // ((3 K - 1) n_b, n_vec4)

// Softmax over K rows from `first`: share = exp(raw - largest) * inverse.
struct Softmax {
    largest: vec4<f32>,
    inverse: vec4<f32>,
}
fn softmax(first: u32, n_bins: u32) -> Softmax {
    var largest = output[first];
    for (var k = 1u; k < n_bins; k = k + 1u) {
        largest = max(largest, output[first + k * batch.n_vec4]);
    }
    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < n_bins; k = k + 1u) {
        sum += safe_exp(output[first + k * batch.n_vec4] - largest);
    }
    return Softmax(largest, 1.0 / sum);
}

// The bin that a point lies in. before_x and before_y sum the shares of the bins before it, own_x and own_y are its own.
struct Bin {
    k: vec4<f32>,
    x: vec4<f32>,
    width: vec4<f32>,
    y: vec4<f32>,
    height: vec4<f32>,
    d0: vec4<f32>,
    d1: vec4<f32>,
    slope0: vec4<f32>,   // d d0 / d raw
    slope1: vec4<f32>,
    before_x: vec4<f32>,
    own_x: vec4<f32>,
    before_y: vec4<f32>,
    own_y: vec4<f32>,
}

// softplus of shifted raw values, and its derivative.
struct Derivative {
    value: vec4<f32>,
    slope: vec4<f32>,
}
fn derivative(raw: vec4<f32>) -> Derivative {
    let x = raw + shape.shift;
    let e = safe_exp(-abs(x));
    let value = shape.least_derivative + (max(x, vec4<f32>(0.0)) + log_1p(e));
    return Derivative(value, select(e, vec4<f32>(1.0), x > vec4<f32>(0.0)) / (1.0 + e));
}

// Finds the bin of `at`, a v, or a u if by_height, by the knots between bins alone. `first` is row 0 of the coordinate.
fn find_bin(first: u32, n_bins: u32, widths: Softmax, heights: Softmax, at: vec4<f32>, by_height: bool) -> Bin {
    let n_vec4 = batch.n_vec4;
    var bin: Bin;
    var x = vec4<f32>(-shape.bound);
    var y = vec4<f32>(-shape.bound);
    var sum_x = vec4<f32>(0.0);
    var sum_y = vec4<f32>(0.0);
    var raw0 = vec4<f32>(0.0);
    var raw1 = vec4<f32>(0.0);
    var next_raw = vec4<f32>(0.0);
    for (var k = 0u; k < n_bins; k = k + 1u) {
        let share_x = safe_exp(output[first + k * n_vec4] - widths.largest) * widths.inverse;
        let share_y = safe_exp(output[first + (n_bins + k) * n_vec4] - heights.largest) * heights.inverse;
        let width = shape.least_size + shape.size_scale * share_x;
        let height = shape.least_size + shape.size_scale * share_y;
        let before_raw = next_raw;
        if k + 1u < n_bins {
            next_raw = output[first + (2u * n_bins + k) * n_vec4];
        }
        let knot = select(x, y, by_height);
        let inside = (at >= knot) | vec4<bool>(k == 0u);
        bin.k = select(bin.k, vec4<f32>(f32(k)), inside);
        bin.x = select(bin.x, x, inside);
        bin.width = select(bin.width, width, inside);
        bin.y = select(bin.y, y, inside);
        bin.height = select(bin.height, height, inside);
        bin.before_x = select(bin.before_x, sum_x, inside);
        bin.own_x = select(bin.own_x, share_x, inside);
        bin.before_y = select(bin.before_y, sum_y, inside);
        bin.own_y = select(bin.own_y, share_y, inside);
        raw0 = select(raw0, before_raw, inside);
        raw1 = select(raw1, next_raw, inside);
        x += width;
        y += height;
        sum_x += share_x;
        sum_y += share_y;
    }
    // At both ends the derivative is one.
    let left = derivative(raw0);
    let right = derivative(raw1);
    let is_first = bin.k < vec4<f32>(0.5);
    let is_last = bin.k > vec4<f32>(f32(n_bins) - 1.5);
    bin.d0 = select(left.value, vec4<f32>(1.0), is_first);
    bin.d1 = select(right.value, vec4<f32>(1.0), is_last);
    bin.slope0 = left.slope;
    bin.slope1 = right.slope;
    return bin;
}

// A point of a bin; eta = 1 - xi, u = y + height * r, du/dv = (s / c)^2 n.
struct Point {
    s: vec4<f32>,
    xi: vec4<f32>,
    eta: vec4<f32>,
    q: vec4<f32>,
    r: vec4<f32>,
    c: vec4<f32>,
    n: vec4<f32>,
}
fn point(bin: Bin, xi: vec4<f32>, eta: vec4<f32>) -> Point {
    let s = bin.height / bin.width;
    let q = xi * eta;
    let c = s * (xi * xi + eta * eta) + (bin.d0 + bin.d1) * q;
    let r = (s * xi * xi + bin.d0 * q) / c;
    let n = bin.d1 * xi * xi + 2.0 * s * q + bin.d0 * eta * eta;
    return Point(s, xi, eta, q, r, c, n);
}
fn point_at_v(bin: Bin, v: vec4<f32>) -> Point {
    let xi = clamp((v - bin.x) / bin.width, vec4<f32>(0.0), vec4<f32>(1.0));
    return point(bin, xi, 1.0 - xi);
}
fn point_at_u(bin: Bin, u: vec4<f32>) -> Point {
    let s = bin.height / bin.width;
    let up = clamp((u - bin.y) / bin.height, vec4<f32>(0.0), vec4<f32>(1.0));
    let down = 1.0 - up;
    let p = bin.d0 * down - bin.d1 * up;
    let near = 2.0 * s * select(up, down, p < vec4<f32>(0.0));
    let t = abs(p) + sqrt(p * p + 4.0 * s * s * (up * down));
    let sum = t + near;
    let xi = select(near, t, p < vec4<f32>(0.0)) / sum;
    let eta = select(t, near, p < vec4<f32>(0.0)) / sum;
    return point(bin, xi, eta);
}
fn log_det_of(p: Point) -> vec4<f32> {
    return 2.0 * safe_log(p.c / p.s) - safe_log(p.n);
}
fn is_inside(x: vec4<f32>) -> vec4<bool> {
    return abs(x) < vec4<f32>(shape.bound);
}
