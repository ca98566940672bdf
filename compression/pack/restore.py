"""The slim model back from its dense form, the units removed and the weights of the packed file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from compression.errors import CompressionError, RunFailed
from compression.graph import Graph, parameter_map, slim_report, zero_units, zeroed_units
from compression.graph.copies import deep_copy
from compression.pack.container import unpack
from compression.quant import attach_input_quantizers, fold
from compression.quant.attach import INPUT_QUANTIZER, unsigned_key

Units = Mapping[str, Sequence[int]]
"""Group id → the units that were removed."""
SMALL_NOISE = 0.01


def restore_slim(dense: nn.Module, graph: Graph, units: Units, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The slim model with the weights of ``state``: plain modules, or a graph of plain operations as the run made it.

    Raises:
        CompressionError: the state is that of another model.
    """
    masked = fold(dense).eval()  # its own parametrizations are plain values in the state
    mark = f".{INPUT_QUANTIZER}.step_size"
    quantized = [name.removesuffix(mark) for name in state if name.endswith(mark)]
    for name in filter(state.__contains__, map(unsigned_key, quantized)):
        if state[name].shape != () or not torch.equal(state[name], torch.tensor(True)):
            raise CompressionError(f"the packed entry {name} must be true, once")
    if quantized:
        attach_input_quantizers(masked, quantized, [name for name in quantized if unsigned_key(name) in state])
    zero_units(masked, graph, units)
    _protect_zero_units(masked, graph, units)
    slim, _ = slim_report(masked, graph)
    try:
        slim.load_state_dict(dict(state))
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1].strip()
        raise CompressionError(f"the packed weights are those of another model: {line}") from error
    return slim.eval()


@torch.no_grad()
def _protect_zero_units(masked: nn.Module, graph: Graph, units: Units) -> None:
    """A unit that happens to be zero in the dense model, and was not removed, must not be cut now."""
    tensors = parameter_map(masked)
    for name, zero in zeroed_units(masked, graph).items():
        alive = sorted(set(zero) - set(units.get(name, ())))
        for member in graph.group(name).zeroed_members if alive else ():
            tensor = tensors[member.name]
            where = member.positions[alive].flatten().to(tensor.device)
            tensor.index_fill_(member.dim, where, SMALL_NOISE)


def restored(plain: nn.Module, path: Path) -> nn.Module:
    """A copy of the model read back from its packed file, which must give every tensor of ``plain`` bit for bit.

    Raises:
        RunFailed: it does not.
    """
    state, expected = unpack(path), plain.state_dict()
    wrong = [name for name, tensor in expected.items() if name not in state or not torch.equal(state[name], tensor)]
    if wrong or state.keys() - expected.keys():
        name = (wrong or sorted(state.keys() - expected.keys()))[0]
        raise RunFailed(f"the packed file does not restore the model: {name} differs; please report this")
    shipped = deep_copy(plain)
    shipped.load_state_dict(state)
    return shipped
