// Sums over a workgroup in a fixed tree: the same device gives the same bits. `workgroup` is a power of two.
var<workgroup> tree: array<vec4<f32>, {{ workgroup }}>;
fn tree_sum(lane: u32, value: vec4<f32>) -> vec4<f32> {
    tree[lane] = value;
    workgroupBarrier();
    for (var step = {{ workgroup // 2 }}u; step > 0u; step = step / 2u) {
        if lane < step {
            tree[lane] = combine(tree[lane], tree[lane + step]);
        }
        workgroupBarrier();
    }
    return tree[0];
}
