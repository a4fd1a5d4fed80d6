// The number of parameters, of derived quantities and of simulated values, and the shape of the data.
const D: u32 = {{ dim }}u;
{% if n_derived > 0 %}
const M: u32 = {{ n_derived }}u;
{% endif %}
{% if n_observed > 0 %}
const X: u32 = {{ n_observed }}u;
{% endif %}
{% if n_rows > 0 %}
const n_rows: u32 = {{ n_rows }}u;
const n_columns: u32 = {{ n_columns }}u;
{% endif %}
