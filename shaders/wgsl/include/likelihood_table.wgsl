// Observed data, or constants of a simulator, at binding `data_binding`.
{% if reads_data %}
@group(0) @binding({{ data_binding }}) var<storage, read> lwflow_data: array<f32>; // (n_rows, n_columns)
// An index outside means the last one.
fn data(row: u32, column: u32) -> f32 {
    return lwflow_data[min(row, n_rows - 1u) * n_columns + min(column, n_columns - 1u)];
}
{% elif n_rows > 0 %}
fn data(row: u32, column: u32) -> f32 {
    return 0.0; // nothing calls it
}
{% endif %}
