"""Reading a bundle back: every file against its checksum, and nothing in it is run, unpickled or evaluated."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from compression import zoo
from compression.errors import CompressionError
from compression.export.archive import MOST_BYTES, Entry, LooseEntry, opened
from compression.export.example import check_answers, read_example, stored_inputs
from compression.export.manifest import CHECKSUMS, MOST_JSON, Manifest, NetworkFacts, StoredFile, network, read_manifest
from compression.export.program import check_safe
from compression.graph import Example, Graph, Inputs, deep_copy, factored, factored_graph, trace
from compression.pack import unpack
from compression.pack.outline import Outline
from compression.pack.restore import restore_slim
from compression.quant import fold
from compression.quant.attach import INPUT_QUANTIZER
from compression.reading import short

NEEDED = ("budget.json", "config.json", "weights.packed")
PROGRAM, EXAMPLE = "model.pt2", "example.safetensors"
LARGER, SMALL_NETWORK = 64, 1 << 24
"""Elements of the dense network for each packed one; a network of up to ``SMALL_NETWORK`` of them is built anyway."""
NUMBERS_A_BYTE, SMALL_INPUT = 2, 1 << 18
"""Numbers of one input for each byte of the bundle, which holds four inputs; up to ``SMALL_INPUT`` of them anyway."""

Given = nn.Module | Callable[..., Any]


def load(path: str | Path, model: Given | None = None, *, trust: bool = False) -> nn.Module:
    """The compressed model of a bundle, in evaluation mode: slim, its weights decoded from ``weights.packed``.

    The network is one of the zoo, torchvision, timm or transformers, built here by its name; or it is your own code,
    which you pass. It comes back in its own classes, so that it can be traced, quantized and trained again. Without
    ``trust`` no code of the bundle is run, and nothing in it is unpickled or evaluated.

    Args:
        path: the zip.
        model: the dense network the bundle was made from, or a function that returns it (called with whichever of the
            keywords ``input`` and ``classes`` it takes), in the place of the zoo's; it is not changed.
        trust: where the network is code that you do not have, take the program ``model.pt2`` of the bundle. Reading
            it can run code of whoever made the bundle: only for bundles whose origin you know.

    Raises:
        CompressionError: no bundle, of a newer version, truncated, changed since it was made, its files contradict one
            another or the network; or its network is code of its own, and neither ``model`` nor ``trust`` was given.
    """
    files, known = _verified(path, needed(model, trust))
    return restored(files, known, path, os.stat(path).st_size, model, trust)


def needed(model: Given | None, trust: bool) -> set[str]:
    """The files of a bundle from which :func:`load` makes its model; not every bundle has all of them."""
    return {*NEEDED, EXAMPLE, *((PROGRAM,) if trust and model is None else ())}


def restored(
    files: Mapping[str, bytes], known: Manifest, path: str | Path, size: int, model: Given | None, trust: bool
) -> nn.Module:
    """The model of these files of the bundle ``path`` of ``size`` bytes, each equal to its checksum: see :func:`load`.

    Raises:
        CompressionError: as :func:`load`.
    """
    about, tensors = network(known, files, path)
    _check_input(about, path, size)
    images = read_example(files[EXAMPLE], about, path) if EXAMPLE in files else None
    if model is None and zoo.is_file(about.model):
        if not trust:
            raise CompressionError(_own_code(about.model, path))
        if PROGRAM not in files:
            raise CompressionError(f"bundle {path} holds no {PROGRAM}: pass the network, cx.load(path, model=…)")
        result = _from_program(files[PROGRAM], _weights(files["weights.packed"]))
    else:
        dense = _zoo_network(about, tensors, path) if model is None else _own_network(model, about)
        wide = factored(deep_copy(dense), about.ranks) if about.ranks else dense
        _check_names(wide, tensors, path)
        graph = trace(dense, zoo.example(about.model, input=about.input) if model is None else _inputs(images, about))
        graph = factored_graph(wide, graph, about.ranks)
        _check_groups(graph, about, path)
        result = restore_slim(wide, graph, about.units, _weights(files["weights.packed"]))
    if images is not None:
        check_answers(result, images, path)
    return result


def read_files(path: str | Path, names: Collection[str] | None = None) -> dict[str, bytes]:
    """The files of a bundle by name (only these ``names``), each equal to its checksum; all of them are checked.

    Raises:
        CompressionError: as :func:`load`.
    """
    return _verified(path, names)[0]


def read_folder(folder: Path, names: Collection[str], path: str | Path) -> tuple[dict[str, bytes], Manifest]:
    """These files of a bundle that lies unpacked in a folder, those it has, each equal to its checksum.

    Other files are not looked at. ``path`` is what messages call the bundle.

    Raises:
        CompressionError: no bundle, or a file that is missing, too large or another than the bundle was made with.
    """
    if not (folder / CHECKSUMS).is_file():
        raise CompressionError(f"{path} is no bundle: it has no {CHECKSUMS}")
    known = read_manifest(_content(LooseEntry(folder / CHECKSUMS), CHECKSUMS, path), path)
    for name in NEEDED:
        if name not in known.files or not (folder / name).is_file():
            raise CompressionError(f"bundle {path}: {name} is missing")
    here = [name for name in names if name in known.files and (folder / name).is_file()]
    return {name: _checked(LooseEntry(folder / name), name, known.files[name], path, True) for name in here}, known


def _verified(path: str | Path, names: Collection[str] | None) -> tuple[dict[str, bytes], Manifest]:
    with opened(path) as entries:
        if CHECKSUMS not in entries:
            raise CompressionError(f"{path} is no bundle: it has no {CHECKSUMS}")
        known = read_manifest(_content(entries[CHECKSUMS], CHECKSUMS, path), path)
        for name in (*NEEDED, *known.files):
            if name not in entries or name not in known.files:
                raise CompressionError(f"bundle {path}: {name} is missing")
        for name in entries:
            if name not in known.files and name != CHECKSUMS:
                raise CompressionError(f"bundle {path} holds {name}, which {CHECKSUMS} does not list")
        read = {}
        for name, stored in known.files.items():
            keep = names is None or name in names
            content = _checked(entries[name], name, stored, path, keep)
            if keep:
                read[name] = content
    return read, known


def _content(entry: Entry | LooseEntry, name: str, path: str | Path) -> bytes:
    most = MOST_JSON if name.endswith(".json") else MOST_BYTES
    if entry.size > most:
        raise CompressionError(f"bundle {path}: {name} is larger than the {most:,} bytes that are read of one")
    return b"".join(entry.chunks())


def _checked(entry: Entry | LooseEntry, name: str, stored: StoredFile, path: str | Path, keep: bool) -> bytes:
    """The file, or nothing where only its checksum matters, in pieces."""
    digest = hashlib.sha256()
    content = _content(entry, name, path) if keep else b""
    for chunk in (content,) if keep else entry.chunks():
        digest.update(chunk)
    if digest.hexdigest() != stored.sha256 or entry.size != stored.bytes:
        raise CompressionError(
            f"bundle {path}: {name} was changed since it was made (sha256 {digest.hexdigest()}, the bundle says "
            f"{stored.sha256})"
        )
    return content


def _check_input(about: NetworkFacts, path: str | Path, size: int) -> None:
    """Refuse an input out of all proportion to the file, before a network is run on one.

    Raises:
        CompressionError: naming it.
    """
    if math.prod(about.input) > max(SMALL_INPUT, NUMBERS_A_BYTE * size):
        raise CompressionError(
            f"bundle {path} names inputs of {about.input}, more than a file of its size holds: it is not read"
        )


def _zoo_network(about: NetworkFacts, tensors: Outline, path: str | Path) -> nn.Module:
    """The dense network by its name: first without memory for its numbers, and compared with what is packed.

    Raises:
        CompressionError: no such network, one of other tensors, or one that is out of all proportion to them.
    """
    outlined = factored(zoo.build(about.model, about.input, about.outputs, empty=True), about.ranks)
    _check_names(outlined, tensors, path)
    dense = sum(tensor.numel() for tensor in outlined.state_dict().values())
    packed = sum(torch.Size(shape).numel() for shape, _ in tensors.values())
    if dense > max(SMALL_NETWORK, LARGER * packed):
        raise CompressionError(
            f"bundle {path} names {about.model} of {dense:,} numbers and holds {packed:,}: it is not that network"
        )
    return zoo.build(about.model, about.input, about.outputs).eval()


def _check_names(dense: nn.Module, tensors: Outline, path: str | Path) -> None:
    """Refuse packed tensors that no slim version of the dense network has, before they are decoded.

    Raises:
        CompressionError: naming the first one.
    """
    state = dense.state_dict()
    if any(map(is_lazy, state.values())):
        raise CompressionError("the network that was passed has layers without shapes: run it once on an input")
    for name, (shape, kind) in tensors.items():
        own = state.get(name)
        if own is None:
            fits = f".{INPUT_QUANTIZER}." in f".{name}" or name.startswith("constant_")
            limit = f"a tensor that {type(dense).__name__} has not"
        else:
            fits = len(shape) == own.dim() and all(a <= b for a, b in zip(shape, own.shape, strict=True))
            limit = f"at most {tuple(own.shape)} of {own.dtype}"
            fits &= own.dtype == getattr(torch, kind)
        if not fits:
            raise CompressionError(
                f"bundle {path} holds the weights of another model than {type(dense).__name__}: {name} is {shape} of "
                f"{kind}, not {limit}"
            )


def _check_groups(graph: Graph, about: NetworkFacts, path: str | Path) -> None:
    """Refuse units that were removed of groups which the network has not, or has in another size."""
    sizes = {group.id: group.units for group in graph.prunable}
    for name in about.units:
        if sizes.get(name) != about.groups[name].units:
            raise CompressionError(
                f"bundle {path} lacks units of {name} ({about.groups[name].units} units), a group that the network has "
                f"not ({sizes.get(name, 'none')}): it is another network"
            )


def _own_network(model: Given, about: NetworkFacts) -> nn.Module:
    from compression.zoo.imported import build_from, unwrapped

    if not isinstance(model, nn.Module) and not callable(model):
        raise CompressionError(f"model must be a network, or a function that returns one, not {short(model)}")
    given = unwrapped(model) if isinstance(model, nn.Module) else build_from(model, about.input, about.outputs)
    if any(tensor.is_meta for tensor in given.state_dict().values()):
        raise CompressionError(
            "the network that was passed is on the meta device, which holds no values: build it on cpu"
        )
    return fold(given).cpu().eval()  # parametrizations of its own are values in the bundle


def _inputs(images: Mapping[str, torch.Tensor] | None, about: NetworkFacts) -> Example:
    """What to trace a caller's network with: one image of the bundle's input, or what else its example holds."""
    given = None if images is None else stored_inputs(images)
    if given is not None and not (isinstance(given, torch.Tensor) and given.is_floating_point()):
        return Inputs.read(given).batch_of(1).example
    return torch.randn(1, *about.input, generator=torch.Generator().manual_seed(0))


def _own_code(model: str, path: str | Path) -> str:
    return (
        f"the network of bundle {path} is code of its maker ({model}): pass it, cx.load(path, model=function); or, if "
        "you know where the bundle is from, cx.load(path, trust=True) takes the program in it, which can run code"
    )


def _weights(data: bytes) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.packed"
        path.write_bytes(data)
        return unpack(path)


def _from_program(data: bytes, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The program of a trusted bundle; the check refuses what is plainly a pickle, it makes no file safe."""
    check_safe(data, PROGRAM)
    model = torch.export.load(io.BytesIO(data)).module()
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CompressionError(f"{PROGRAM} and weights.packed do not fit: {str(error).splitlines()[-1]}") from error
    return model
