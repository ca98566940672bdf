"""What every operation does to the owners of its operands: one small rule per ATen operation."""

from compression.graph.rules.registry import Step, apply, rule

__all__ = ["Step", "apply", "rule"]
