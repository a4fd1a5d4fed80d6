// acc{o}_{v} = sum_k matrix[first_row + o][k] * input[k][column(v)]: `tile` rows by `vectors` vec4s of samples in
// registers. Four k at a time, summed as a group, so that rounding grows with the number of groups and a matrix load
// is one vec4. Columns count within the flow z; those past its end are
// clamped: they are computed twice and stored by their owner only.
    let n_vec4 = batch.n_vec4;
    let flow_vec4 = batch.flow_vec4;
    let flow4 = (batch.first_flow + group.z) * shape.flow4;
    let first_row = group.y * {{ tile }}u;
{% for v in range(vectors) %}
    let column_{{ v }} = group.x * {{ workgroup * vectors }}u + {{ v * workgroup }}u + lane.x;
    let read_{{ v }} = group.z * flow_vec4 + min(column_{{ v }}, flow_vec4 - 1u);
{% endfor %}
{% for o in range(tile) %}
    let matrix_{{ o }} = flow4 + shape.matrix_offset + (first_row + {{ o }}u) * shape.n_in4;
{% for v in range(vectors) %}
    var acc{{ o }}_{{ v }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
    let n_in4 = shape.n_in4 + (group.z >> 16u); // see include/batch.wgsl
    for (var k4 = 0u; k4 < n_in4; k4 = k4 + 1u) {
        let row = 4u * k4 * n_vec4;
{% for v in range(vectors) %}
        let in0_{{ v }} = input[row + read_{{ v }}];
        let in1_{{ v }} = input[row + n_vec4 + read_{{ v }}];
        let in2_{{ v }} = input[row + 2u * n_vec4 + read_{{ v }}];
        let in3_{{ v }} = input[row + 3u * n_vec4 + read_{{ v }}];
{% endfor %}
{% for o in range(tile) %}
        let w{{ o }} = matrix[matrix_{{ o }} + k4];
{% for v in range(vectors) %}
        acc{{ o }}_{{ v }} += (w{{ o }}.x * in0_{{ v }} + w{{ o }}.y * in1_{{ v }}) + (w{{ o }}.z * in2_{{ v }} + w{{ o }}.w * in3_{{ v }});
{% endfor %}
{% endfor %}
    }
