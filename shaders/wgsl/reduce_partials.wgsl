// grad[i] = sum_chunk partial[chunk][i], chunks in order by four interleaved sums: the same device and batch give the
// same bits; y is the flow. With `accumulate` the sum is added to grad: the pieces of a batch after the first.
{% include "include/batch.wgsl" %}
struct Shape {
    stride4: u32, // vec4s per chunk of partial
    n4: u32,      // vec4s to reduce
    flow4: u32,   // vec4s from one flow's gradient to the next's
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> partial: array<vec4<f32>>;      // (flows, flow_chunks, stride4)
@group(0) @binding(3) var<storage, read_write> grad: array<vec4<f32>>;   // (flows, flow4), the first n4

@compute @workgroup_size({{ workgroup }})
fn reduce_partials(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n_chunks = batch.flow_chunks + group.z; // see include/batch.wgsl
    if id.x >= shape.n4 {
        return;
    }
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    let first = group.y * batch.flow_chunks;
    let to = (batch.first_flow + group.y) * shape.flow4 + id.x;
    var chunk = 0u;
    for (; chunk + 4u <= n_chunks; chunk = chunk + 4u) {
        let at = (first + chunk) * shape.stride4 + id.x;
        sum0 += partial[at];
        sum1 += partial[at + shape.stride4];
        sum2 += partial[at + 2u * shape.stride4];
        sum3 += partial[at + 3u * shape.stride4];
    }
    for (; chunk < n_chunks; chunk = chunk + 1u) {
        sum0 += partial[(first + chunk) * shape.stride4 + id.x];
    }
    let sum = (sum0 + sum1) + (sum2 + sum3);
    if batch.accumulate == 1u {
        grad[to] += sum;
    } else {
        grad[to] = sum;
    }
}
