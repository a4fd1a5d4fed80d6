// Chunk c of all flows' chunks: the vec4s of its samples, and whose they are.
struct Chunk {
    begin: u32,
    end: u32,
    flow: u32,
}
fn chunk_of(c: u32) -> Chunk {
    let flow = c / batch.flow_chunks;
    let begin = flow * batch.flow_vec4 + (c - flow * batch.flow_chunks) * batch.chunk_vec4;
    return Chunk(begin, min(begin + batch.chunk_vec4, (flow + 1u) * batch.flow_vec4), batch.first_flow + flow);
}
