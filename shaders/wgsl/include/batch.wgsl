// The piece of the batch that is on the device. Every per-sample array is feature-major, rows of n_vec4 vec4s:
// element (row, i) is component i % 4 of array[row * n_vec4 + i / 4]. Samples at and beyond n_samples are padding.
// Loop bounds that come from a uniform have the workgroup's z added, which is always 0: Mesa's lavapipe would otherwise
// take them for constants worth inlining and compile the kernel anew at every dispatch.
struct Batch {
    n_samples: u32,
    n_vec4: u32,      // padded samples / 4, a multiple of 16
    n_chunks: u32,    // chunks of samples that gradients are summed over
    chunk_vec4: u32,  // samples per chunk / 4
    use_control: u32, // 1: effective weights w - exp(log_q + log_inv_proposal)
    accumulate: u32,  // 1: gradients are added to those of the pieces before
}
@group(0) @binding(0) var<uniform> batch: Batch;
