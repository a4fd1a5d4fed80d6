{% macro weight(k) %}subgroupShuffle(s{{ k // 32 }}.{{ ["x", "y", "z", "w"][k % 4] }}, {{ (k % 32) // 4 }}u){% endmacro %}
{% macro vec4s(n) %}{{ ((n + 31) // 32) * 8 }}{% endmacro %}
