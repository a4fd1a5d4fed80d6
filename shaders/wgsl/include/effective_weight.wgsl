// w_eff = w - exp(log_q + log_inv_proposal) with a control variate, else w; padding keeps weight zero.
fn effective_weight(i: u32, w: vec4<f32>, lv: vec4<f32>, log_q: vec4<f32>) -> vec4<f32> {
    let sample = vec4<u32>(4u * (i % batch.flow_vec4)) + vec4<u32>(0u, 1u, 2u, 3u);
    let controlled = batch.use_control == 1u;
    return select(w, w - safe_exp(log_q + lv), (sample < vec4<u32>(batch.n_samples)) & vec4<bool>(controlled));
}
