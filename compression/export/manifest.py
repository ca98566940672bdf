"""``checksums.json``: the network of a bundle, and the size and SHA-256 of each file.

The network's facts are stored in several files. Reading compares them all: with one another, with the packed tensors,
and with the stored example. Checksums detect changes in transit; they do not identify the author.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.source import Source
from compression.pack.outline import Outline, outline
from compression.reading import json_object, short, typed

CHECKSUMS = "checksums.json"
VERSION = 2
"""Version 1 has no ``network``."""
MOST_JSON = 16 << 20

_Size = Annotated[int, Field(strict=True, ge=1, le=2**24)]
_Count = Annotated[int, Field(strict=True, ge=0, le=2**24)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class StoredFile:
    """A file of the bundle as the manifest lists it."""

    bytes: Annotated[int, Field(strict=True, ge=0)]
    sha256: _Digest


@dataclass(frozen=True)
class GroupFact:
    """A group of the dense network: its number of units, and the indices of the removed ones."""

    units: _Size
    removed: list[_Count]


@dataclass(frozen=True)
class NetworkFacts:
    """The facts that determine the network: the same in ``config.json`` and in the manifest.

    ``input``: the shape of one example; ``outputs``: classes; ``groups``: group id → its units; ``ranks``: layer → the
    rank of its two factors.
    """

    model: _Name
    input: Annotated[tuple[_Size, ...], Field(max_length=5)]
    outputs: _Size
    groups: dict[str, GroupFact]
    ranks: dict[str, _Size] = field(default_factory=dict)

    @property
    def units(self) -> dict[str, list[int]]:
        """Group id → its removed units, for groups that have any."""
        return {name: group.removed for name, group in self.groups.items() if group.removed}


@dataclass(frozen=True)
class _Bound(NetworkFacts):
    tensors: dict[str, tuple[list[_Count], str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """``network`` is ``None`` in bundles of version 1."""

    version: Literal[1, 2]
    files: dict[str, StoredFile]
    network: _Bound | None = None


_MANIFEST, _NETWORK = TypeAdapter(Manifest), TypeAdapter(NetworkFacts)


def manifest(source: Source, about: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of ``checksums.json`` for these files; ``about`` is that of ``config.json``."""
    groups = {name: {"units": group["units"], "removed": group["removed"]} for name, group in about["groups"].items()}
    tensors = {name: [list(shape), kind] for name, (shape, kind) in outline(source.packed).items()}
    network = {name: about[name] for name in ("model", "input", "outputs")}
    return {
        "version": VERSION,
        "network": {**network, "groups": groups, "ranks": about["ranks"], "tensors": tensors},
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }


def read_manifest(data: bytes, path: object) -> Manifest:
    """The manifest of the bundle at ``path``.

    Raises:
        CompressionError: its version is not supported, or a field has an impossible value.
    """
    what = f"bundle {path}: {CHECKSUMS}"
    value = json_object(data, what)
    version = value.get("version")
    if version not in (1, VERSION) or isinstance(version, bool):
        raise CompressionError(
            f"bundle {path} has version {short(version)}; this program reads 1 and {VERSION}: open it with the release "
            "that wrote it"
        )
    read = typed(_MANIFEST, value, what)
    if version == VERSION and read.network is None:
        raise CompressionError(f"{what} does not say which network it is")
    return read


def network(known: Manifest, files: Mapping[str, bytes], path: object) -> tuple[NetworkFacts, Outline]:
    """The network of the bundle and its tensors, on which all its files agree.

    ``files`` are ``budget.json``, ``config.json`` and ``weights.packed``.

    Raises:
        CompressionError: naming the difference, or the impossible value.
    """
    what = f"bundle {path}"
    budget = Budget.from_dict(json_object(files["budget.json"], f"{what}: budget.json"))
    result = typed(_NETWORK, json_object(files["config.json"], f"{what}: config.json"), f"{what}: config.json")
    tensors = outline(files["weights.packed"])
    _agree(what, "model", result.model, budget.model)
    _agree(what, "input", tuple(result.input), budget.input or result.input)
    _agree(what, "number of classes", result.outputs, budget.classes or result.outputs)
    bound = known.network
    if bound is not None:
        for name in ("model", "input", "outputs", "groups", "ranks"):
            _agree(what, name, getattr(result, name), getattr(bound, name))
        _agree(what, "tensors", tensors, {name: (tuple(s), kind) for name, (s, kind) in bound.tensors.items()})
    for name, group in result.groups.items():
        if len(set(group.removed)) != len(group.removed) or any(unit >= group.units for unit in group.removed):
            raise CompressionError(f"{what}: the units removed of {name} are none of its {group.units}")
    return result, tensors


def _agree(what: str, name: str, one: object, other: object) -> None:
    if one != other:
        raise CompressionError(f"{what}: its files do not agree on the {name}: {_first(one, other)}; export it again")


def _first(one: object, other: object) -> str:
    """The first difference of two values, in one line."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys: Iterable[Any] = (key for key in (*one, *other) if one.get(key) != other.get(key))
        key = next(iter(keys))
        return f"{short(key)} is {short(one.get(key))} in one and {short(other.get(key))} in another"
    return f"{short(one)} in one and {short(other)} in another"
