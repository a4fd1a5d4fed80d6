// The piece of the batch that is on the device: samples of one flow, or as many of each of several, one flow after another.
// Every per-sample array is feature-major, rows of n_vec4 vec4s: element (row, i) is component i % 4 of
// array[row * n_vec4 + i / 4]. Of a flow's samples those at and beyond n_samples are padding.
// Loop bounds that come from a uniform have a part of the workgroup's z added that is always 0: Mesa's lavapipe would
// otherwise take them for constants worth inlining and compile the kernel anew at every dispatch.
struct Batch {
    n_samples: u32,   // samples of a flow
    n_vec4: u32,      // padded samples of all flows / 4
    flow_vec4: u32,   // padded samples of a flow / 4, a multiple of 16
    flow_chunks: u32, // chunks of samples that a flow's gradients are summed over
    chunk_vec4: u32,  // samples per chunk / 4
    use_control: u32, // 1: effective weights w - exp(log_q + log_inv_proposal)
    accumulate: u32,  // 1: gradients are added to those of the pieces before
    first_flow: u32,  // whose samples come first
}
@group(0) @binding(0) var<uniform> batch: Batch;
