"""Quantizers in the graph: one node each, or every operation they are written in (the other half of GETA's
quantization-aware dependency graph; finding them is ``branches``).

Merged, an inserted branch is a single node ``…:quantizer`` and an attached one has no node: its layer names its
parameters. As traced, every operation is a node, those on weights included. Both graphs have the same groups, and every
node outside quantizers has the id that it has in the float network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from compression.graph.branches import RecordedBranch, find_branches
from compression.graph.flow import Flow, name_of, quantizes, refs, rounds
from compression.graph.names import canonical
from compression.graph.provenance import Provenance
from compression.graph.reasons import Code, Reason
from compression.graph.recording import Call, Recording
from compression.graph.rules import Step, apply
from compression.graph.types import Branch, Node
from compression.graph.values import Value

CLIPS = frozenset({"clamp", "clamp_min", "clamp_max", "minimum", "maximum"})


@dataclass
class Merging:
    """The quantizers of a recording while it is replayed: which call belongs to which, and the nodes they became."""

    recorded: tuple[RecordedBranch, ...] = ()
    merge: bool = True
    branch_of: dict[int, RecordedBranch] = field(default_factory=dict)  # id of a call -> the quantizer it belongs to
    ends: dict[int, list[RecordedBranch]] = field(default_factory=dict)  # id of a call -> those that end in it
    ranges: set[int] = field(default_factory=set)  # ids of calls that take the largest magnitude of the data
    places: dict[int, frozenset[str]] = field(default_factory=dict)  # weight-like value -> the nodes it comes from
    nodes: dict[str, list[str]] = field(default_factory=dict)  # quantizer -> its nodes
    targets: dict[str, str] = field(default_factory=dict)  # quantizer -> the node it ends in
    names: Counter[str] = field(default_factory=Counter)

    @property
    def quantizer_parameters(self) -> frozenset[str]:
        """Canonical names of the quantizers' own parameters: cut with the channels they belong to, never zeroed."""
        return frozenset(canonical(name) for branch in self.recorded for name in branch.parameters)

    def name(self, call: Call) -> str:
        """The id of an operation of a quantizer: the quantizer's where it is one node."""
        branch = self.branch_of[id(call)]
        if self.merge:
            return branch.id
        base = f"{branch.id}/{name_of(call)}"
        self.names[base] += 1
        return base if self.names[base] == 1 else f"{base}#{self.names[base]}"

    def replay(self, step: Step) -> tuple[Value, ...]:
        """Replay an operation of a quantizer; every tie it creates is one of a step per channel."""
        ties = step.provenance.ties
        count = len(ties)
        freed = id(step.call) in self.ranges and _is_zeroed(step.args[0])
        values = apply(replace(step, provenance=Provenance()) if freed else step)
        per_channel = Reason(Code.quantized_per_channel)
        ties[count:] = [(left, right, where, per_channel) for left, right, where, _ in ties[count:]]
        return _clipped(step, values)

    def is_node(self, call: Call, from_data: bool) -> bool:
        """Whether an operation of a quantizer is an ordinary node: on the data, and the last one if merged."""
        if not from_data:
            return False
        return not self.merge or any(branch.kind == "inserted" for branch in self.ends.get(id(call), ()))

    def weight_node(self, call: Call, where: str, kind: str, silent: bool) -> tuple[Node | None, list[str]]:
        """A node for an operation on weights, with the nodes before it, where every operation is shown."""
        branch = self.branch_of.get(id(call))
        if self.merge or branch is None:
            return None, []
        before = frozenset().union(*(self.places.get(ref.id, frozenset()) for ref in refs(call)))
        outputs = [ref for ref in call.out if ref is not None]
        self.places.update((ref.id, before if silent else frozenset({where})) for ref in outputs)
        if silent or not outputs:
            return None, []
        self.nodes.setdefault(branch.id, []).append(where)
        return Node(where, call.op, kind, call.module, outputs[0].shape, branch=branch.id), sorted(before)

    def annotate(self, call: Call, node: Node) -> tuple[Node, list[str]]:
        """A node with the quantizers that are part of it, and further nodes it reads: those on its weight."""
        if not self.recorded:
            return node, []
        branch = self.branch_of.get(id(call))
        if branch is not None:
            self.nodes.setdefault(branch.id, []).append(node.id)
            node = replace(node, branch=branch.id)
        ends = self.ends.get(id(call), [])
        self.targets.update((end.id, node.id) for end in ends)
        if not self.merge:
            read = {place for ref in refs(call) for place in self.places.get(ref.id, ())}
            return node, sorted(read)
        if branch is not None:
            node = replace(node, kind="quantizer", op=node.op if quantizes(call) else "quantizer")
        return replace(node, quantizers=tuple(p for end in ends for p in end.parameters)), []

    def branches(self, recording: Recording, edges: Iterable[tuple[str, str]]) -> tuple[Branch, ...]:
        """The quantizers with the nodes that represent them."""
        edges = list(edges)
        branches = []
        for branch in self.recorded:
            nodes = tuple(self.nodes.get(branch.id, ()))
            read = dict.fromkeys(end for start, end in edges if start in nodes and end not in nodes)
            ended = (self.targets[branch.id],) if branch.id in self.targets else ()
            target = tuple(read) or ended
            operations = tuple(recording.calls[number].op for number in branch.calls)
            branches.append(Branch(branch.id, branch.kind, nodes, target, branch.parameters, operations))
        return tuple(branches)


def prepare(recording: Recording, merge: bool) -> Merging:
    """Find the quantizers, at no cost where nothing rounds.

    A module of which only quantizers are parts is named like one without parts, as in the float network.
    """
    if not any(rounds(call) for call in recording.calls):
        return Merging()
    flow = Flow(recording)
    merging = Merging(find_branches(flow), merge)
    for branch in merging.recorded:
        merging.branch_of.update((id(flow.calls[number]), branch) for number in branch.calls)
        merging.ends.setdefault(id(flow.calls[branch.end]), []).append(branch)
    merging.ranges = {id(flow.calls[n]) for branch in merging.recorded for n in branch.calls if _is_range(flow, n)}
    recording.leaves.update(_bare(flow, merging))
    return merging


def _is_range(flow: Flow, number: int) -> bool:
    """Whether a call of a quantizer takes the largest magnitude of the data: zeroed units do not change it."""
    call = flow.calls[number]
    if name_of(call) not in ("max", "amax") or not flow.runs_on_data(number):
        return False
    maker = flow.maker.get(next(refs(call)).id)
    return maker is not None and name_of(flow.calls[maker]) == "abs"


def _bare(flow: Flow, merging: Merging) -> set[str]:
    """Modules of which only quantizers are parts."""
    quantizing = {call.module for call in flow.calls if id(call) in merging.branch_of}
    running = {c.module for n, c in enumerate(flow.calls) if id(c) not in merging.branch_of and flow.runs_on_data(n)}
    parents = {module.rpartition(".")[0] for module in quantizing - running} - {""}
    return {parent for parent in parents if not any(module.startswith(f"{parent}.") for module in running)}


def _is_zeroed(data: Value) -> bool:
    """Whether units are zero where they are zeroed: then the largest magnitude freezes none of them."""
    return all(factor.zero and len(factor.dims) == 1 for factor in data.factors)


def _clipped(step: Step, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """What a quantizer clips to its bounds stays zero where it was: learned bounds enclose zero."""
    data = step.args[0] if step.args else None
    if name_of(step.call) not in CLIPS or not isinstance(data, Value):
        return values
    if any(isinstance(bound, (int, float)) for bound in step.args[1:]):
        return values  # written numbers speak for themselves
    zero = {dim for factor in data.factors if factor.zero for dim in factor.dims}
    return tuple(
        replace(v, factors=tuple(replace(f, zero=f.zero or bool(zero & set(f.dims))) for f in v.factors))
        for v in values
    )
