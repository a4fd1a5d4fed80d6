// result[b] = what is left of block b of a scan: its largest log L, sums of L and L^2 in units of that, and its draws above
// the threshold. One workgroup per block; sums in a fixed tree. Values are told apart by their bits: compilers may take
// NaN and infinities for absent.
{% include "include/safe_math.wgsl" %}
struct Shape {
    threshold: f32, // finite
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> log_likelihood: array<u32>;    // (n_blocks, block), bits of f32
// (n_blocks, 8 + 2 slots): bits of max, sum, sum of squares; draws above; first illegal row and its bits; two unused;
// then row and bits of the draws above, as far as the slots go
@group(0) @binding(2) var<storage, read_write> result: array<u32>;

fn combine(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(max(a.x, b.x), min(a.y, b.y), a.z + b.z, a.w + b.w);
}
{% include "include/workgroup_tree.wgsl" %}
var<workgroup> counts: array<u32, {{ workgroup }}>;

const LOWEST = -3.40282347e+38;
const NO_ROW = {{ block }}.0;

// NaN or +inf.
fn is_illegal(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u;
}
// -inf, or the end of f32 that devices put in its place.
fn is_nothing(bits: u32) -> bool {
    return bits >= 0xff7fffffu;
}

@compute @workgroup_size({{ workgroup }})
fn reduce_scan(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let threshold = shape.threshold + f32(group.z); // see include/batch.wgsl
    let base = group.x * {{ block }}u;
    let out = group.x * {{ 8 + 2 * slots }}u;

    var seen = vec4<f32>(LOWEST, NO_ROW, 0.0, 0.0);
    var n_above = 0u;
    for (var row = lane.x; row < {{ block }}u; row = row + {{ workgroup }}u) {
        let bits = log_likelihood[base + row];
        if is_illegal(bits) {
            seen.y = min(seen.y, f32(row));
        } else if !is_nothing(bits) {
            let value = bitcast<f32>(bits);
            seen.x = max(seen.x, value);
            n_above = n_above + select(0u, 1u, value > threshold);
        }
    }
    counts[lane.x] = n_above;
    let extremes = tree_sum(lane.x, seen);
    workgroupBarrier();

    var sums = vec4<f32>(0.0);
    var slot = 0u;
    for (var before = 0u; before < lane.x; before = before + 1u) {
        slot = slot + counts[before];
    }
    for (var row = lane.x; row < {{ block }}u; row = row + {{ workgroup }}u) {
        let bits = log_likelihood[base + row];
        if is_illegal(bits) || is_nothing(bits) {
            continue;
        }
        let value = bitcast<f32>(bits);
        let d = max(value - extremes.x, -87.0);
        let e = safe_exp(vec4<f32>(d, 2.0 * d, d, d));
        sums = sums + vec4<f32>(0.0, 0.0, e.xy);
        if value > threshold {
            if slot < {{ slots }}u {
                result[out + 8u + 2u * slot] = row;
                result[out + 9u + 2u * slot] = bits;
            }
            slot = slot + 1u;
        }
    }
    let total = tree_sum(lane.x, sums);
    if lane.x == {{ workgroup - 1 }}u {
        let illegal = u32(extremes.y);
        result[out] = bitcast<u32>(extremes.x);
        result[out + 1u] = bitcast<u32>(total.z);
        result[out + 2u] = bitcast<u32>(total.w);
        result[out + 3u] = slot;
        result[out + 4u] = illegal;
        result[out + 5u] = log_likelihood[base + min(illegal, {{ block - 1 }}u)];
    }
}
