// gradient[p] = grads[grad_map[p] - 1]: the flat gradient out of the kernels' layouts (where grad_map[p] is 0, gradient
// has its value already), flow y;  sums[group] = the group's share of sum_p gradient[p]^2 and the count of values not finite
{% include "include/is_bad.wgsl" %}
struct Shape {
    n_params: u32,
    n_groups: u32,
    n_sums: u32, // sums of a flow
    n_grads: u32, // floats from one flow's gradients to the next's
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> grads: array<f32>;
@group(0) @binding(2) var<storage, read> grad_map: array<u32>;          // (n_params)
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;    // (flows, n_params)
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;  // see include/norm.wgsl
{% include "include/norm.wgsl" %}
{% include "include/workgroup_tree.wgsl" %}

@compute @workgroup_size({{ workgroup }})
fn gradient_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let n_params = shape.n_params + group.z; // see include/batch.wgsl
    let to = group.y * n_params;
    var sum = vec4<f32>(0.0);
    for (var p = group.x * {{ workgroup }}u + lane.x; p < n_params; p = p + shape.n_groups * {{ workgroup }}u) {
        let at = grad_map[p];
        if at > 0u {
            gradient[to + p] = grads[group.y * shape.n_grads + at - 1u];
        }
        let g = gradient[to + p];
        sum = combine(sum, vec4<f32>(abs(g), 1.0, select(0.0, 1.0, is_bad(g)), 0.0));
    }
    let total = tree_sum(lane.x, sum);
    if lane.x == 0u {
        sums[group.y * shape.n_sums + group.x] = total;
    }
}
