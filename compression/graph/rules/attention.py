"""Fused attention: one operation for queries, keys and values, in which a head is the unit."""

from __future__ import annotations

from compression.graph.reasons import Code
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value, collapse, combine


@rule("aten._scaled_dot_product_flash_attention", "aten._scaled_dot_product_efficient_attention",
      "aten._scaled_dot_product_flash_attention_for_cpu", "aten.scaled_dot_product_attention")  # fmt: skip
def attention(step: Step) -> Value:
    """Fused attention on [batch, heads, length, width]: a head is a unit."""
    heads = []
    for value in step.args[:3]:
        factors = []
        for factor in value.factors:
            if 1 in factor.dims:
                factors.append(collapse(factor, (1,), step.provenance, step.where, Code.one_head))
            else:
                step.provenance.freeze(factor.atoms, step.where, Code.head_width)
        heads.append(Value(value.shape[:2] + (1, 1), tuple(factors), value.origin, value.sources))
    shape = step.shape[:2] + (1, 1)
    merged = combine(heads, shape, step.provenance, step.where, Code.same_head)
    zero = any(f.zero for f in heads[2].factors)
    return step.output(*(Factor(f.atoms, zero) for f in merged))
