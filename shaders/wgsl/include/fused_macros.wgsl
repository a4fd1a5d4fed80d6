{% macro weight(k) %}subgroupShuffle(s{{ k // (4 * lanes) }}.{{ ["x", "y", "z", "w"][k % 4] }}, {{ (k % (4 * lanes)) // 4 }}u){% endmacro %}
{% macro vec4s(n) %}{{ ((n + 4 * lanes - 1) // (4 * lanes)) * lanes }}{% endmacro %}
