"""Tracing a network and finding what can only be removed together."""

from compression.graph.names import canonical
from compression.graph.names import parameter_map
from compression.graph.slim import SlimReport
from compression.graph.slim import slim
from compression.graph.slim import slim_report
from compression.graph.slim import zero_units
from compression.graph.slim import zeroed_units
from compression.graph.trace import trace
from compression.graph.types import Graph
from compression.graph.types import Group
from compression.graph.types import Layer
from compression.graph.types import Member
from compression.graph.types import Node
from compression.graph.types import Tie

__all__ = [
    "Graph",
    "Group",
    "Layer",
    "Member",
    "Node",
    "SlimReport",
    "Tie",
    "canonical",
    "parameter_map",
    "slim",
    "slim_report",
    "trace",
    "zero_units",
    "zeroed_units",
]
