"""Why units hang together, and why some must stay, in plain sentences: one for every reason the graph gives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app import plain
from app.groups import grouping

# reason → sentence; {op} is the place, {one} and {other} what flows into it. What joins layers stands first.
TIES = {
    "residual add": "{op} adds {one} to {other}: channel i of one is channel i of the other.",
    "concatenated side by side": "{op} puts {all} side by side along another axis: channel i of one is channel i of "
    "the other.",
    "concatenated": "{op} joins {all} end to end: all that sits at one place of the joined axis goes together.",
    "queries, keys and values of one head": "{op} multiplies queries with keys, or weights with values, head by head: "
    "head i of {one} is head i of {other}.",
    "one attention head": "{op} works on whole heads: all rows of {one} that make one head are one unit.",
    "elementwise product": "{op} multiplies {one} with {other}, place by place: channel i of one is channel i of the "
    "other.",
    "combined elementwise": "{op} combines {all} place by place: channel i of one is channel i of the other.",
    "depthwise convolution": "{op} filters every channel of {one} by itself: without channel i, filter i has no work.",
    "the same place in every group of a grouped convolution": "{op} is a convolution in equal groups: the channels at "
    "the same place in every group go together, so that the groups stay equal.",
    "split into equal parts": "{op} cuts {one} into equal parts: the channels at the same place in every part go "
    "together, so that the parts stay equal.",
    "parts of an axis that is split into equal blocks": "{op} reshapes {one} into equal blocks: what sits at the same "
    "place in every block goes together.",
    "one pixel-shuffle block": "{op} turns blocks of channels of {one} into pixels: the channels of one block go "
    "together.",
    "interleaved with the other groups": "{op} shuffles {one} between groups: the channels at the same place in every "
    "group go together.",
    "shifted together": "{op} combines {all} place by place: channel i of one is channel i of the other.",
    "quantized per channel": "{op} quantizes {one} with a step per channel: step i belongs to channel i.",
    "meets a parameter along the width of a head": "{op} applies one parameter to the width of every head of {one}: "
    "heads stay whole.",
    "meets an axis that cannot be cut": "{op} combines {one} with something that cannot be cut along one side: what "
    "lies along that side goes together.",
    "written into a part of another tensor": "{op} writes {one} into a part of a tensor whose channels are the same: "
    "channel i of one is channel i of the other.",
    "written in place": "{op} writes {one} over {other}: channel i of one is channel i of the other.",
    "added up to one channel": "{op} adds overlapping patches of {one} up to an image: all that makes one channel goes "
    "together.",
    "contracted together": "{op} sums {one} over several axes at once: all that is summed with one channel goes with "
    "it.",
    "read together by a convolution": "{op} reads several axes of {one} as one channel: they go together.",
    "added together": "{op} adds a learned or fixed tensor to {one}: its entry i goes with unit i.",
    "averaged over together, in one group of a group norm": "{op} averages {one} in groups: one group of channels goes "
    "as a whole, which the other groups do not notice.",
    "the same place in every group of a group norm": "{op} averages {one} in groups: the channels at the same place in "
    "every group go together, so that the groups stay equal.",
    "normalised together with its layer": "{op} scales and shifts every channel of {one} by itself: its scale, shift "
    "and statistics number i belong to channel i.",
    "read by the next layer": "{op} reads {one}: its input column i is multiplied with unit i and nothing else.",
    "bias of the same layer": "{op} adds a bias to what it computes: bias i belongs to output i.",
}

# an operation that freezes single channels keeps heads and blocks as units, by the same reason
WHOLE = "{op} takes {one} in wholes, so that whole heads or blocks are the units"

# what a reason for staying looks like → sentence; {place} names where, where the graph shows it
FROZEN = {
    r"adjacent to the output": "They are what the network answers with{place}: without one of them an answer is "
    "missing.",
    r"user": "They stay because the one who traced the network asked for it.",
    r"shared with a frozen parameter": "They share their numbers with a parameter that was asked to stay.",
    r"a single unit": "There is only one unit, and without it nothing would pass.",
    r"an? (.+) norm averages over these units": "A {0} norm{place} averages over all of them: take one out, and every "
    "other comes out different.",
    r"a norm averages over these units": "A norm{place} averages over all of them: take one out, and every other comes "
    "out different.",
    r"a softmax runs over these units": "A softmax{place} shares 1 out among them: take one out, and every other gets "
    "more.",
    r"(.+) runs over these units": "The operation {0}{place} runs over all of them: take one out, and the others come "
    "out different.",
    r"an? (.+) norm runs over the width of a head": "A {0} norm{place} averages over the inside of every head: only "
    "whole heads can go.",
    r"runs along the width of every head": "They go along the inside of every head{place}: only whole heads can go.",
    r"a weight norm divides by the length of these weights": "A weight norm{place} divides by the length of these "
    "weights: take one out, and the others change.",
    r"a quantizer measures the range of these weights at every pass (.+)": "A quantizer{place} measures the range of "
    "these weights anew at every pass: take some out, and the others are rounded differently. Switch its observer off "
    "(`torch.ao.quantization.disable_observer`) to fix the range.",
    r"divided by a parameter that is zeroed with its unit": "They are divided{place} by a parameter that goes to zero "
    "with its unit, so a zeroed unit gives no number.",
    r"not a number where a unit is zeroed": "Something{place} divides by them or takes their logarithm: a zeroed unit "
    "gives no number there.",
    r"summed over weights that are not zeroed with their unit": "A norm or a sum{place} runs over the weights that "
    "read them, and these are not zero: take some out, and it changes.",
    r"random numbers are drawn along these units": "Random numbers are drawn{place} along them: take one out, and the "
    "others get different ones.",
    r"forward\(\) replaces the parameter (\S+)": "The forward pass replaces the parameter `{0}`, so what is cut out of "
    "it comes back.",
    r"written to by train\(\) and eval\(\)": "Switching between training and evaluation writes to these weights, as "
    "when adapters are merged into them: what is zero in training comes back. Merge them for good, then trace again.",
    r"held in 8-bit floating point": "Their numbers are held in an 8-bit floating-point type, which cannot be cut.",
    r"no parameter makes these units zero": "No parameter can be set to zero to switch one of them off.",
    r"read or written by index \((\S+)\)": "`{0}`{place} reads or writes them by number: take one out, and the numbers "
    "mean others.",
    r"picked by a mask": "A mask{place} picks among them, and it has a fixed size.",
    r"used as an index": "They are used as numbers of positions{place}.",
    r"written into a part of another tensor": "They are written into a part of another tensor{place}, whose channels "
    "are not theirs.",
    r"a weight whose axes are tangled": "A weight{place} is reshaped so that its rows cannot be told apart.",
    r"several owners along a joined axis": "Channels of several layers meet{place} along one joined axis.",
    r"an owned spatial axis": "They are moved{place} into pixels of another layer.",
    r"op (\S+) is not understood": "The operation `{0}`{place} is not known here, so nothing that reaches it is "
    "touched. A rule for it can be registered.",
    r"op (\S+) reads it as positions": "The operation `{0}`{place} reads them as positions, not as channels.",
    r"averages over these units": "A mean{place} is taken over all of them: take one out, and it changes.",
    r"(.+) over these units": "`{0}`{place} runs over all of them: its result depends on how many there are.",
    r"added to the model's input": "They are added to the network's own input{place}, whose channels cannot be cut.",
    r"added to a constant of fixed size": "A constant of fixed size is added to them{place}.",
    r"added to (?:.+)": "Something is added to them{place} whose channels cannot be cut.",
    r"combined with the model's input": "They meet the network's own input{place}, whose channels cannot be cut.",
    r"combined with a constant of fixed size": "They meet a constant of fixed size{place}.",
    r"combined with positions that no unit owns": "Some of them meet positions{place} that belong to no channel, such "
    "as padding.",
    r"combined with (?:.+)": "They meet something{place} whose channels cannot be cut.",
    r"multiplied with an axis that cannot be cut": "They are multiplied{place} with something that cannot be cut.",
    r"several owners along a contracted axis": "A product{place} sums over channels of several layers at once.",
    r"convolved with computed weights": "They are convolved{place} with weights that are computed on the way, not "
    "stored.",
    r"slid over by a convolution": "A convolution{place} slides along them, as if they were pixels.",
    r"reads an axis that cannot be cut": "They read something{place} that cannot be cut, such as the network's input.",
    r"read by a layer that has no columns to cut": "A layer{place} reads them without a column for each.",
    r"transposed depthwise convolution with a multiplier": "A transposed depthwise convolution{place} makes several "
    "channels of each; this shape is not cut.",
    r"depthwise over an axis that cannot be cut": "A depthwise convolution{place} works on channels that cannot be "
    "cut.",
    r"grouped convolution of this shape": "A convolution in groups{place} has a shape that is not cut.",
    r"reshaped to an empty tensor": "They are reshaped{place} to a tensor without elements.",
    r"pixel shuffle over an owned spatial axis": "A pixel shuffle{place} moves them into pixels of another layer.",
    r"pooled over an owned spatial axis": "Pooling{place} runs along them, as if they were pixels.",
    r"normalises an axis that cannot be cut": "They scale something{place} that cannot be cut.",
    r"width of an attention head": "They are the inside of attention heads{place}: only whole heads can go.",
    r"nn\.MultiheadAttention fixes its number of heads": "`nn.MultiheadAttention` is built for a fixed number of heads "
    "and does not run with fewer.",
    r"sliced at a fixed position": "A slice{place} takes them at fixed positions: take one out, and it takes others.",
    r"split into unequal parts at fixed positions": "They are split{place} at fixed positions into unequal parts.",
    r"padded to a fixed size": "They are padded{place} to a fixed number.",
    r"read in overlapping windows": "They are read{place} in overlapping windows, as if they were pixels.",
    r"rolled through all axes as one": "They are rolled{place} through all axes as one: without one, the others move.",
    r"picked by index": "They are picked by number{place}: take one out, and the numbers mean others.",
    r"written into a tensor of fixed size": "They are written{place} into a tensor of fixed size.",
    r"an axis with padded positions is split": "An axis that is partly padding is split into blocks{place}.",
    r"a zeroed unit is not zero any more where it is read": "Where they are read{place} a zeroed unit is not zero any "
    "more, so taking it out would change the answer.",
}


@dataclass(frozen=True)
class Place:
    """Where in the network a reason holds: the operation, and the layers and joins whose outputs reach it."""

    op: str
    sources: tuple[str, ...] = ()


def tie(why: str, place: Place) -> str:
    """One tie in a sentence; a reason this file does not know is repeated as it is."""
    names = [f"the output of {_quoted(source)}" for source in place.sources]
    one = names[0] if names else "what comes in"
    other = f"that of {_quoted(place.sources[1])}" if len(names) > 1 else "what it meets"
    template = TIES.get(why) or WHOLE + f" ({why})."
    everything = f"the outputs of {_listed(place.sources)}" if len(names) > 1 else one
    return template.format(op=_quoted(place.op) if place.op else "A reshape", one=one, other=other, all=everything)


def frozen(reason: str, where: str | None = None) -> str:
    """Why a group must stay, or what taking units out of it changes, in a sentence."""
    place = f" in {_quoted(where)}" if where else ""
    for pattern, template in FROZEN.items():
        found = re.fullmatch(pattern, reason)
        if found:
            return template.format(*map(plain.text, found.groups()), place=place)
    return f"It must stay: {plain.text(reason)}."


def known(reason: str) -> bool:
    """Is there a sentence made for this reason?"""
    return reason in TIES or any(re.fullmatch(pattern, reason) for pattern in FROZEN)


def rank(why: str) -> int:
    """Ties between layers first, those inside one layer last."""
    order = list(TIES)
    return order.index(why) if why in order else 0


class Places:
    """Looks up what flows into an operation, past reshapes, norms and activations."""

    def __init__(self, graph: Mapping[str, Any]) -> None:
        """Reads a ``graph`` JSON once."""
        self._nodes = {node["id"]: node for node in graph["nodes"]}
        self._before: dict[str, list[str]] = {}
        for start, end in graph["edges"]:
            self._before.setdefault(end, []).append(start)
        meeting = Counter(end for _, end in graph["edges"])
        self._named = {
            i
            for i, node in self._nodes.items()
            if node["kind"] in grouping.KEPT_KINDS or node.get("layer") or meeting[i] > 1
        }

    def of(self, op: str) -> Place:
        """The operation with the layers and joins it reads; nearest first."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        todo = list(self._before.get(op, ()))
        while todo:
            node = todo.pop(0)
            if node in seen:
                continue
            seen.add(node)
            if node in self._named:
                found[node] = None
            else:
                todo.extend(self._before.get(node, ()))
        order = {node: i for i, node in enumerate(self._nodes)}
        return Place(op, tuple(sorted(found, key=lambda node: -order[node])))

    def frozen(self, place: str, nodes: Sequence[str]) -> str | None:
        """Where a reason for staying shows: its place, or what of ``nodes`` leads to it where that is an output."""
        if self._nodes.get(place, {}).get("op") == "output":
            return next((node for node in nodes if node in self._before.get(place, ())), None)
        return place if place in self._nodes else None


def _quoted(name: str) -> str:
    return plain.code(name)


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(_quoted(name) for name in names[:3])} and {len(names) - 3} more"
    return ", ".join(_quoted(name) for name in names[:-1]) + f" and {_quoted(names[-1])}"
