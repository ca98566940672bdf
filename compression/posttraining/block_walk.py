"""What a walk through a network brings onto its grid at a time: a layer, or all layers of a block together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from compression.graph.running import in_mode
from compression.posttraining.block_inputs import Unfit, block_batches
from compression.posttraining.block_problem import BlockOutcome, BlockProblem, SolveBlock
from compression.posttraining.layers import LayerWalk
from compression.posttraining.problems import LayerOutcome, Solve


@dataclass(frozen=True)
class Unit:
    """Layers that are brought onto their grids together; ``block``: the path of theirs, empty for a layer by itself."""

    layers: tuple[str, ...]
    block: str = ""


@dataclass
class UnitOutcome:
    """What became of a unit's layers (``None``: rounded to nearest, since never called), of the block where it was
    learned as one, and lines for people."""

    layers: dict[str, LayerOutcome | None]
    block: BlockOutcome | None = None
    notes: list[str] = field(default_factory=list)


def units(walk: LayerWalk, blocks: Iterable[str] = ()) -> list[Unit]:
    """All layers in their order; those of a block come where its first one does. Layers whose weights are shared with a
    layer outside of their block are by themselves."""
    block_of = {
        name: block
        for block in blocks
        for name, paths in walk.paths.items()
        if name in walk.names and all(path.startswith(f"{block}.") for path in paths)
    }
    members: dict[str, list[str]] = {}
    for name in walk.names:
        members.setdefault(block_of.get(name, ""), []).append(name)
    result = []
    for name in walk.names:
        block = block_of.get(name, "")
        if not block:
            result.append(Unit((name,)))
        elif name == members[block][0]:
            result.append(Unit(tuple(members[block]), block))
    return result


def bring(
    walk: LayerWalk, unit: Unit, solve: Solve, solve_block: SolveBlock | None, check: Callable[[], None] = lambda: None
) -> UnitOutcome:
    """Bring a unit's layers onto their grids: a block's together where it can be run by itself, else one by one.

    Raises:
        CompressionError: an input of a layer, or an output of a block, that is not finite.
    """
    notes: list[str] = []
    if unit.block and solve_block is not None:
        try:
            return _together(walk, unit, solve_block, check)
        except Unfit as why:
            notes.append(f"block {unit.block} {why}: its layers are learned one by one")
    outcome = UnitOutcome({name: walk.step(name, solve) for name in unit.layers}, notes=notes)
    for name, each in outcome.layers.items():
        if each is None:
            outcome.notes.append(_never_called(name))
        else:
            outcome.notes += [f"{name}: {note}" for note in each.notes]
    return outcome


def _together(walk: LayerWalk, unit: Unit, solve_block: SolveBlock, check: Callable[[], None]) -> UnitOutcome:
    source = walk.dense if walk.options.inputs == "dense" else walk.model
    batches = block_batches(source, walk.dense, unit.block, walk.inputs())
    # Which weights are to be 0 depends on what flows into a layer behind nearest rounding of those before it
    flowing = walk.flowing_into(unit.layers)
    called = [name for name in unit.layers if name in flowing]
    if not called:
        raise Unfit("has no layer that is called as one of its own")
    module = walk.model.get_submodule(unit.block)
    problem = BlockProblem(
        unit.block,
        module,
        [walk.problem(name, flowing[name]) for name in called],
        [[walk.model.get_submodule(path) for path in walk.paths[name]] for name in called],
        batches,
        torch.Generator().manual_seed(walk.seed_of(unit.layers[0])),
        check,
    )
    energy = sum(float(problem.error(batch.target)) * len(batch.target) for batch in batches)
    examples = sum(len(batch.target) for batch in batches)
    scale = max(energy / examples, 1e-300)
    with in_mode(walk.model):
        values = solve_block(problem)
        rounded = [layer.nearest(layer.weights) * mask for layer, (_, mask) in zip(problem.layers, values, strict=True)]
        errors = [
            problem.mean_error([each.float() for each in weights]) / scale
            for weights in (rounded, [each for each, _ in values])
        ]
    outcomes: dict[str, LayerOutcome | None] = dict.fromkeys(unit.layers)
    for layer, (each, mask) in zip(problem.layers, values, strict=True):
        outcomes[layer.name] = walk.write(layer, each, mask)
    notes = [_never_called(name) for name, each in outcomes.items() if each is None]
    return UnitOutcome(outcomes, BlockOutcome(tuple(called), errors[0], errors[1], examples), notes)


def _never_called(name: str) -> str:
    return f"{name} is never called as a layer of its own: its weights are rounded to nearest"
