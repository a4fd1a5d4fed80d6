// If no group of adam_propose found a value that is not finite: (p, m, v) = proposed, and every float of the kernels'
// layouts takes its parameter, packed[i] = p[pack_map[i] - 1] (0: no parameter's place). Otherwise nothing changes.
// y is the flow. report[cursor] = (loss, norm, 1 if taken); the cursor moves on. Packing reads what is proposed, not what is being
// written, so one dispatch does both.
struct Shape {
    n_params: u32,
    n_packed: u32,
    n_groups: u32,
    n_flows: u32,
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> verdict: array<vec4<f32>>;       // (flows, n_groups)
@group(0) @binding(2) var<storage, read> proposed: array<f32>;            // (flows, 3, n_params)
@group(0) @binding(3) var<storage, read> pack_map: array<u32>;            // (n_packed)
@group(0) @binding(4) var<storage, read_write> state: array<f32>;         // (flows, 3, n_params)
@group(0) @binding(5) var<storage, read_write> packed: array<f32>;        // (flows, n_packed)
@group(0) @binding(6) var<storage, read_write> progress: array<u32>;      // (flows, 2): cursor, steps taken
@group(0) @binding(7) var<storage, read_write> report: array<vec4<f32>>;  // (steps, flows)
fn combine(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return a + b;
}
{% include "include/workgroup_tree.wgsl" %}

@compute @workgroup_size({{ workgroup }})
fn adam_commit(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let n_groups = shape.n_groups + group.z; // see include/batch.wgsl
    let first = group.y * n_groups;
    let p0 = group.y * 3u * shape.n_params;
    let cursor = 2u * group.y;
    var sum = vec4<f32>(0.0);
    for (var s = lane.x; s < n_groups; s = s + {{ workgroup }}u) {
        sum += vec4<f32>(verdict[first + s].x, 0.0, 0.0, 0.0);
    }
    let taken = tree_sum(lane.x, sum).x == 0.0;
    let i = group.x * {{ workgroup }}u + lane.x;
    if i == 0u {
        report[progress[cursor] * shape.n_flows + group.y] = vec4<f32>(verdict[first].y, verdict[first].z, select(0.0, 1.0, taken), 0.0);
        progress[cursor] += 1u;
        progress[cursor + 1u] += select(0u, 1u, taken);
    }
    if !taken {
        return;
    }
    if i < shape.n_params {
        let at = p0 + i;
        state[at] = proposed[at];
        state[at + shape.n_params] = proposed[at + shape.n_params];
        state[at + 2u * shape.n_params] = proposed[at + 2u * shape.n_params];
    }
    if i < shape.n_packed && pack_map[i] > 0u {
        packed[group.y * shape.n_packed + i] = proposed[p0 + pack_map[i] - 1u];
    }
}
