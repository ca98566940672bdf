"""What every operation does to the owners of its operands: one small rule per ATen operation."""

from compression.graph.rules.registry import Step
from compression.graph.rules.registry import apply
from compression.graph.rules.registry import rule

__all__ = ["Step", "apply", "rule"]
