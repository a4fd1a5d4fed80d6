// What the fused coupling kernels share. One lane of a subgroup of `lanes` carries vec4s of samples through a whole
// conditioner of two hidden layers. `stream` holds a layer's weights in the order of use, each part padded to a vec4 a lane:
//   (W1 row, b1) for h1 rows;  per block of `rows` rows of W2: those rows, their b2, their columns of W3;  b3.
// Each lane loads one vec4 in `lanes` of a part (s0, s1, ..) and single weights are broadcast by shuffles with a constant
// lane: on a software adapter a load costs as much as fifty multiplications, such a broadcast one instruction.
{% include "include/batch.wgsl" %}
{% include "include/chunk.wgsl" %}
{% include "include/activation.wgsl" %}
struct Shape {
    s_max: f32,
    inv_s_max: f32,
    stride: u32,     // floats per chunk of partial
    flow4: u32,      // vec4s from one flow's stream to the next's
}
@group(0) @binding(1) var<uniform> shape: Shape;
