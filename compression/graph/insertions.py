"""The quantizer around a rounding operation on the data: from one tensor to one other (see ``branches``).

Starting from the rounding, every elementwise operation below it is tried as the end, the nearest first. What must lie
between follows: all that leads from the rounding to the end, and upwards whatever else these read, until all of it
comes from a single tensor.
"""

from __future__ import annotations

import math
from typing import Any

from compression.graph.flow import MADE_LIKE, RANGE, RESHAPES, SAME, Flow, name_of, quantizes, refs, written
from compression.graph.recording import Call, Ref

MOST_CALLS = 48  # of one quantizer; the reference's takes 14
SCALES = ("mul", "div")
SIGNS = frozenset({"sign", "sgn", "gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or", "logical_not"})
CLIPS = frozenset({"clamp", "clamp_min", "clamp_max", "minimum", "maximum", "hardtanh"})
SIDES = frozenset({"where", "clone"})


def around(flow: Flow, seed: int) -> set[int] | None:
    """The numbers of the calls on data that make up the quantizer with this rounding; ``None`` if it is none."""
    shape = flow.outputs_of(seed)[0].shape
    best: set[int] | None = None
    below = _below(flow, seed, shape)
    for end in below:
        if best is not None and not _joins(flow, end, set(below)):
            continue  # what only follows a quantizer is no part of it
        region = _region(flow, seed, end, set(below), shape)
        if region is not None and _closed(flow, region, end) and _alone(flow, region, seed, end, shape):
            best = region
    return _with_clip(flow, _with_scales(flow, best, seed, shape), shape) if best is not None else None


def _below(flow: Flow, seed: int, shape: tuple[int, ...]) -> list[int]:
    """The rounding and the elementwise calls that its result reaches, in order."""
    reached, todo = {seed}, [seed]
    while todo and len(reached) < MOST_CALLS:
        for output in flow.outputs_of(todo.pop(0)):
            for reader in flow.readers.get(output.id, ()):
                if reader not in reached and _elementwise(flow, reader, shape):
                    reached.add(reader)
                    todo.append(reader)
    return sorted(reached)


def _elementwise(flow: Flow, number: int, shape: tuple[int, ...]) -> bool:
    """Whether a call works place by place on tensors of this shape, or on a range taken from them."""
    call, name = flow.calls[number], name_of(flow.calls[number])
    if written(call):
        return False
    small = all(ref.shape != shape for ref in refs(call) if ref.id in flow.data)
    if name in RANGE or (small and name in RESHAPES):
        return True
    known = call.pointwise or name in SAME or name in MADE_LIKE or quantizes(call)
    return known and (small or flow.outputs_of(number)[0].shape == shape)


def _joins(flow: Flow, number: int, below: set[int]) -> bool:
    """Whether a call brings the rounded value together with data that is not rounded."""
    return any(ref.id in flow.data and flow.maker.get(ref.id) not in below for ref in refs(flow.calls[number]))


def _region(flow: Flow, seed: int, end: int, below: set[int], shape: tuple[int, ...]) -> set[int] | None:
    region = _between(flow, end, below)
    if seed not in region:
        return None
    while True:
        entries = _entries(flow, region)
        if len(entries) == 1 and _scaled(flow, region, seed, shape):
            return region if next(iter(entries.values())).shape == shape else None
        newest = max(entries, key=lambda i: flow.maker.get(i, -1), default=None)
        maker = flow.maker.get(newest) if newest is not None else None
        if maker is None or len(region) > MOST_CALLS or not _elementwise(flow, maker, shape):
            return None
        region.add(maker)


def _between(flow: Flow, end: int, below: set[int]) -> set[int]:
    """The calls of ``below`` that lead to ``end``."""
    region, todo = {end}, [end]
    while todo:
        for ref in refs(flow.calls[todo.pop()]):
            maker = flow.maker.get(ref.id)
            if maker in below and maker not in region:
                region.add(maker)
                todo.append(maker)
    return region


def _entries(flow: Flow, region: set[int]) -> dict[int, Ref]:
    """The data that a region reads and does not make."""
    read = (ref for number in region for ref in refs(flow.calls[number]))
    return {ref.id: ref for ref in read if ref.id in flow.data and flow.maker.get(ref.id) not in region}


def _closed(flow: Flow, region: set[int], end: int) -> bool:
    """Whether nothing but its last result is used outside."""
    last = flow.outputs_of(end)[0].id
    inner = [output.id for number in region for output in flow.outputs_of(number) if output.id != last]
    return not any(i in flow.returned or any(reader not in region for reader in flow.readers.get(i, ())) for i in inner)


def _scaled(flow: Flow, region: set[int], seed: int, shape: tuple[int, ...]) -> bool:
    """Whether the rounding is between two scalings that are inverse to each other."""
    if quantizes(flow.calls[seed]):
        return True
    before = _between(flow, seed, region) - {seed}
    into = [scale for n in before for scale in _scales(flow, n, shape)]
    back = [scale for n in region - before - {seed} for scale in _scales(flow, n, shape)]
    return any(_undone(one, two) for one in into for two in back)


Scale = float | frozenset[int]


def _scales(flow: Flow, number: int, shape: tuple[int, ...]) -> list[Scale]:
    """What a product or quotient scales by: the logarithm of a number, or the leaves a tensor comes from."""
    call = flow.calls[number]
    if name_of(call) not in SCALES:
        return []
    scales: list[Scale] = []
    for place, operand in enumerate(call.args[:2]):
        if isinstance(operand, (int, float)) and operand != 0:
            inverse = name_of(call) == "div" and place == 1
            scales.append(math.log(abs(operand)) * (-1 if inverse else 1))
        elif isinstance(operand, Ref) and operand.id not in flow.data:
            scales.append(frozenset(flow.past([operand.id])[1]) or frozenset({flow.maker[operand.id]}))
        elif isinstance(operand, Ref) and operand.shape != shape:
            scales.append(frozenset({-1}))  # a range measured on the data
    return scales


def _undone(one: Scale, two: Scale) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, -two, rel_tol=1e-6, abs_tol=1e-9)
    return isinstance(one, frozenset) and isinstance(two, frozenset) and bool(one & two)


Form = dict[int, float]
ROUNDED = -1


def _alone(flow: Flow, region: set[int], seed: int, end: int, shape: tuple[int, ...]) -> bool:
    """Whether what comes out is the rounded value alone: other data in sums must cancel, in products be signs."""
    forms: dict[int, Form] = {}
    for number in sorted(region):
        call = flow.calls[number]
        form: Form | None = {ROUNDED: 1.0} if number == seed else _form(flow, call, forms, shape)
        if form is None:
            return False
        for output in flow.outputs_of(number):
            forms[output.id] = form or {output.id: 1.0}
    return forms[flow.outputs_of(end)[0].id] == {ROUNDED: 1.0}


def _form(flow: Flow, call: Call, forms: dict[int, Form], shape: tuple[int, ...]) -> Form | None:
    """A result as a sum of the rounded value and others: empty for a new value, ``None`` for a mixture."""
    name = name_of(call)
    parts = [forms.get(ref.id, {ref.id: 1.0}) for ref in refs(call) if ref.id in flow.data]
    if name in SAME and parts:
        return parts[0]
    if not any(ROUNDED in part for part in parts):
        return {}
    if name in ("add", "sub", "rsub"):
        return _sum(flow, call, forms)
    if any(ROUNDED in part and part != {ROUNDED: 1.0} for part in parts):
        return None
    others = [ref for ref in refs(call) if ref.id in flow.data and ROUNDED not in forms.get(ref.id, {})]
    fitting = name in SIDES or all(ref.shape != shape or _is_sign(flow, ref) for ref in others)
    return {ROUNDED: 1.0} if fitting else None


def _sum(flow: Flow, call: Call, forms: dict[int, Form]) -> Form | None:
    if call.kwargs.get("alpha", 1) != 1:
        return None
    signs = {"add": (1, 1), "sub": (1, -1), "rsub": (-1, 1)}[name_of(call)]
    total: Form = {}
    for sign, operand in zip(signs, call.args[:2], strict=True):
        if isinstance(operand, Ref) and operand.id in flow.data:
            for symbol, times in forms.get(operand.id, {operand.id: 1.0}).items():
                total[symbol] = total.get(symbol, 0.0) + sign * times
    return {symbol: times for symbol, times in total.items() if times}


def _is_sign(flow: Flow, ref: Ref) -> bool:
    """Whether a tensor contains signs or a mask, possibly times a step."""
    number = flow.maker.get(ref.id)
    if number is None:
        return False
    call = flow.calls[number]
    if name_of(call) in SIGNS:
        return True
    if name_of(call) not in (*SAME, *SCALES):
        return False
    inner: list[Any] = [operand for operand in refs(call) if operand.id in flow.data]
    return len(inner) == 1 and _is_sign(flow, inner[0])


def _with_scales(flow: Flow, region: set[int], seed: int, shape: tuple[int, ...]) -> set[int]:
    """Add further pairs of inverse scalings on both sides: ``round(x / a * 255) / 255 * a``."""
    while True:
        above = flow.maker.get(next(iter(_entries(flow, region))))
        below = flow.readers.get(flow.outputs_of(max(region))[0].id, [])
        if above is None or len(below) != 1:
            return region
        into, back = _scales(flow, above, shape), _scales(flow, below[0], shape)
        grown = region | {above, below[0]}
        fits = any(_undone(one, two) for one in into for two in back) and len(_entries(flow, grown)) == 1
        if not fits or not _closed(flow, grown, below[0]) or not _alone(flow, grown, seed, below[0], shape):
            return region
        region = grown


def _with_clip(flow: Flow, region: set[int], shape: tuple[int, ...]) -> set[int]:
    """Add the clip above the quantizer: to a bound from which its step is computed, or in a module of nothing else."""
    while True:
        entry = next(iter(_entries(flow, region)))
        maker = flow.maker.get(entry)
        if maker is None or name_of(flow.calls[maker]) not in CLIPS or not _elementwise(flow, maker, shape):
            return region
        bounds = flow.past([ref.id for ref in refs(flow.calls[maker])])[1].keys()
        leaves = flow.past([ref.id for number in region for ref in refs(flow.calls[number])])[1].keys()
        grown = region | {maker}
        fits = bool(bounds & leaves) or _whole_module(flow, grown, maker)
        if not fits or len(_entries(flow, grown)) != 1 or not _closed(flow, grown, max(region)):
            return region
        region = grown


def _whole_module(flow: Flow, region: set[int], clip: int) -> bool:
    """Whether these are all the calls on data of the module without parts that also clips."""
    module = flow.calls[clip].module
    if module not in flow.recording.leaves or module != flow.calls[max(region)].module:
        return False
    return all(n in region for n, call in enumerate(flow.calls) if call.module == module and flow.runs_on_data(n))
