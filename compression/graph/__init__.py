"""Tracing a network and finding what can only be removed together."""

from compression.graph.copies import deep_copy
from compression.graph.factors import Ranks, factorable, factored, factored_graph
from compression.graph.inputs import Example, Inputs, call, first_tensor
from compression.graph.names import canonical, parameter_map
from compression.graph.proof import prove
from compression.graph.reasons import Code, Reason
from compression.graph.rules.registry import Step
from compression.graph.rules.registry import rule as register_rule
from compression.graph.slim import SlimReport, slim, slim_report, zero_units, zeroed_units
from compression.graph.trace import trace
from compression.graph.types import Branch, Graph, Group, Layer, Member, Node, Tie
from compression.graph.values import Value, combine

__all__ = [
    "Branch",
    "Code",
    "Example",
    "Graph",
    "Group",
    "Inputs",
    "Layer",
    "Member",
    "Node",
    "Ranks",
    "Reason",
    "SlimReport",
    "Step",
    "Tie",
    "Value",
    "call",
    "canonical",
    "combine",
    "deep_copy",
    "factorable",
    "factored",
    "factored_graph",
    "first_tensor",
    "parameter_map",
    "prove",
    "register_rule",
    "slim",
    "slim_report",
    "trace",
    "zero_units",
    "zeroed_units",
]
