// One step of Adam (Kingma and Ba 2015) with a clip of the global norm, not yet taken:
//   g = gradient * min(1, clip_norm / |gradient|);  m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2
//   p' = p - lr rate_scale (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)
// verdict[group] = (values that are not finite, loss, norm, 0): adam_commit takes the step if there is none anywhere.
// y is the flow. Every group adds up `sums` by itself, in the same order; t is looked up, because a power costs digits.
{% include "include/is_bad.wgsl" %}
struct Shape {
    n_params: u32,
    n_groups: u32,
    n_sums: u32,
    clip_norm: f32, // 0: no clip
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    n_flows: u32,
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> progress: array<u32>;            // (flows, 2): cursor, steps taken
@group(0) @binding(2) var<storage, read> schedule: array<vec4<f32>>;      // (steps, flows): lr, 1 - b1^t, 1 - b2^t
@group(0) @binding(3) var<storage, read> sums: array<vec4<f32>>;          // (flows, n_sums), see include/norm.wgsl
@group(0) @binding(4) var<storage, read> gradient: array<f32>;            // (flows, n_params)
@group(0) @binding(5) var<storage, read> bounds: array<vec2<f32>>;        // (flows, n_params): rate_scale, least value
@group(0) @binding(6) var<storage, read> state: array<f32>;               // (flows, 3, n_params): p, m, v
@group(0) @binding(7) var<storage, read_write> proposed: array<f32>;      // (flows, 3, n_params)
@group(0) @binding(8) var<storage, read_write> verdict: array<vec4<f32>>; // (flows, n_groups)
{% include "include/norm.wgsl" %}
{% include "include/workgroup_tree.wgsl" %}

@compute @workgroup_size({{ workgroup }})
fn adam_propose(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let n_params = shape.n_params + group.z; // see include/batch.wgsl
    let n_sums = shape.n_sums + group.z;
    var sum = vec4<f32>(0.0);
    for (var s = lane.x; s < n_sums; s = s + {{ workgroup }}u) {
        sum = combine(sum, sums[group.y * n_sums + s]);
    }
    let total = tree_sum(lane.x, sum);
    let norm = total.x * sqrt(total.y);
    var clip = 1.0;
    if shape.clip_norm > 0.0 && norm > shape.clip_norm {
        clip = shape.clip_norm / norm;
    }
    let lr = schedule[progress[2u * group.y] * shape.n_flows + group.y].x;
    let correct = schedule[progress[2u * group.y + 1u] * shape.n_flows + group.y].yz;
    let own = group.y * n_params;
    let p0 = 3u * own;
    let m0 = p0 + n_params;
    let v0 = m0 + n_params;
    var bad = total.z + select(0.0, 1.0, is_bad(total.w));
    for (var i = group.x * {{ workgroup }}u + lane.x; i < n_params; i = i + shape.n_groups * {{ workgroup }}u) {
        let g = gradient[own + i] * clip;
        let m = shape.beta1 * state[m0 + i] + shape.one_minus_beta1 * g;
        let v = shape.beta2 * state[v0 + i] + (shape.one_minus_beta2 * g) * g;
        let rate = lr * bounds[own + i].x;
        let p = state[p0 + i] - rate * (m / correct.x) / (sqrt(v / correct.y) + shape.eps);
        proposed[p0 + i] = max(p, bounds[own + i].y);
        proposed[m0 + i] = m;
        proposed[v0 + i] = v;
        if is_bad(p) || is_bad(m) || is_bad(v) {
            bad += 1.0;
        }
    }
    workgroupBarrier();
    let all = tree_sum(lane.x, vec4<f32>(0.0, 0.0, bad, 0.0));
    if lane.x == 0u {
        verdict[group.y * shape.n_groups + group.x] = vec4<f32>(all.z, total.w, norm, 0.0);
    }
}
