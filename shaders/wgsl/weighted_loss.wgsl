// sums[first + group].w = -sum_i w_i log_q_i over the group's samples of flow y, those of weight zero left out
// Lanes walk over the samples with a fixed stride and are added in a fixed tree; who reads `sums` adds the groups.
{% include "include/batch.wgsl" %}
struct Shape {
    first: u32,
    n_groups: u32,
    n_sums: u32, // sums of a flow
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;     // (n_vec4)
@group(0) @binding(3) var<storage, read> log_q: array<vec4<f32>>;      // (n_vec4)
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>; // see include/norm.wgsl
{% include "include/norm.wgsl" %}
{% include "include/workgroup_tree.wgsl" %}

@compute @workgroup_size({{ workgroup }})
fn weighted_loss(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let end = (group.y + 1u) * batch.flow_vec4 + group.z; // see include/batch.wgsl
    var sum = vec4<f32>(0.0);
    for (var i = group.y * batch.flow_vec4 + group.x * {{ workgroup }}u + lane.x; i < end; i = i + shape.n_groups * {{ workgroup }}u) {
        let w = weight[i];
        sum += select(w * log_q[i], vec4<f32>(0.0), w == vec4<f32>(0.0));
    }
    let total = tree_sum(lane.x, vec4<f32>(0.0, 0.0, 0.0, -((sum.x + sum.y) + (sum.z + sum.w))));
    if lane.x == 0u {
        sums[group.y * shape.n_sums + shape.first + group.x] = total;
    }
}
