// The batch of the step at the cursor, from the points that live on the device:
//   x[j][i] = data[p][j], context[c][i] = data[p][D + c] with p = draws[cursor][i].index, weight and log_inv_proposal as
//   drawn, log_det = 0; padding beyond the batch is zero.
// One invocation per four samples walks over the coordinates, so that a point's row is read by one owner.
{% include "include/batch.wgsl" %}
struct Shape {
    dim: u32,
    context_dim: u32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> progress: array<u32>;  // (flows, 2): cursor, steps taken
@group(0) @binding(3) var<storage, read> draws: array<u32>;     // (steps, flows, n_samples, 3): index, weight, log inverse proposal
@group(0) @binding(4) var<storage, read> data: array<f32>;      // (n_points, D + C)
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;                 // (D, n_vec4)
@group(0) @binding(6) var<storage, read_write> context: array<vec4<f32>>;           // (C, n_vec4)
@group(0) @binding(7) var<storage, read_write> weight: array<vec4<f32>>;            // (n_vec4)
@group(0) @binding(8) var<storage, read_write> log_inv_proposal: array<vec4<f32>>;  // (n_vec4)
@group(0) @binding(9) var<storage, read_write> log_det: array<vec4<f32>>;           // (n_vec4)

@compute @workgroup_size({{ workgroup }})
fn gather_batch(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let dim = shape.dim + group.z; // see include/batch.wgsl
    let context_dim = shape.context_dim + group.z;
    let i = id.x;
    let n_vec4 = batch.n_vec4;
    if i >= n_vec4 {
        return;
    }
    let flow = i / batch.flow_vec4;
    let sample = vec4<u32>(4u * (i - flow * batch.flow_vec4)) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = sample < vec4<u32>(batch.n_samples);
    let slot = progress[2u * flow] * (n_vec4 / batch.flow_vec4) + flow;
    let first = 3u * (vec4<u32>(slot * batch.n_samples) + min(sample, vec4<u32>(batch.n_samples - 1u)));
    let row = (dim + context_dim) * vec4<u32>(draws[first.x], draws[first.y], draws[first.z], draws[first.w]);
    let zero = vec4<f32>(0.0);
    for (var j = 0u; j < dim; j = j + 1u) {
        let at = row + vec4<u32>(j);
        x[j * n_vec4 + i] = select(zero, vec4<f32>(data[at.x], data[at.y], data[at.z], data[at.w]), inside);
    }
    for (var c = 0u; c < context_dim; c = c + 1u) {
        let at = row + vec4<u32>(dim + c);
        context[c * n_vec4 + i] = select(zero, vec4<f32>(data[at.x], data[at.y], data[at.z], data[at.w]), inside);
    }
    let w = vec4<u32>(draws[first.x + 1u], draws[first.y + 1u], draws[first.z + 1u], draws[first.w + 1u]);
    let lv = vec4<u32>(draws[first.x + 2u], draws[first.y + 2u], draws[first.z + 2u], draws[first.w + 2u]);
    weight[i] = select(zero, bitcast<vec4<f32>>(w), inside);
    log_inv_proposal[i] = select(zero, bitcast<vec4<f32>>(lv), inside);
    log_det[i] = zero;
}
