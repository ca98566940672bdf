"""Tracing a network and finding what can only be removed together."""

from compression.graph.copies import deep_copy
from compression.graph.inputs import Example
from compression.graph.inputs import Inputs
from compression.graph.names import canonical
from compression.graph.names import parameter_map
from compression.graph.proof import prove
from compression.graph.rules.registry import Step
from compression.graph.rules.registry import rule as register_rule
from compression.graph.slim import SlimReport
from compression.graph.slim import slim
from compression.graph.slim import slim_report
from compression.graph.slim import zero_units
from compression.graph.slim import zeroed_units
from compression.graph.trace import trace
from compression.graph.types import Branch
from compression.graph.types import Graph
from compression.graph.types import Group
from compression.graph.types import Layer
from compression.graph.types import Member
from compression.graph.types import Node
from compression.graph.types import Tie
from compression.graph.values import Value
from compression.graph.values import combine

__all__ = [
    "Branch",
    "Example",
    "Graph",
    "Group",
    "Inputs",
    "Layer",
    "Member",
    "Node",
    "SlimReport",
    "Step",
    "Tie",
    "Value",
    "canonical",
    "combine",
    "deep_copy",
    "parameter_map",
    "prove",
    "register_rule",
    "slim",
    "slim_report",
    "trace",
    "zero_units",
    "zeroed_units",
]
