"""Which known architecture a file of weights belongs to, by the names and shapes of its tensors alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from compression import data, zoo
from compression.data.types import IMAGE
from compression.errors import CompressionError
from compression.reading import cut
from compression.zoo import architectures
from compression.zoo.architectures import Entry, Shapes, matrices, shapes_of

MOST_TRIED = 8  # architectures that are built to see whether they fit; those of one fingerprint differ in name only
MOST_NEAREST = 3
ALIKE = 0.5  # share of names in common above which a network is called near


@dataclass(frozen=True)
class Match:
    """A model at a size whose state has exactly these names and shapes.

    ``whole``: all of its tensors are there; else only those with at least two dimensions agree (batch norms are folded
    into their layers), which tells the architecture but gives it no weights.
    """

    model: str
    input: tuple[int, ...]
    classes: int
    whole: bool = True


@dataclass(frozen=True)
class Nearest:
    """No known model fits; ``model`` is the one with most in common (empty: none is near), ``difference`` in words."""

    model: str = ""
    difference: str = ""


def recognise(shapes: Shapes, whole: bool = True) -> Match | Nearest:
    """The model of these tensors: one of torchvision's, of timm's where it is installed, or the zoo's own.

    The number of classes is read from the head, the input channels from the first layer where the zoo's own model takes
    several. Every answer was built (without values) and compared, name by name.

    Args:
        shapes: parameter → shape, without batch norm's counters.
        whole: these are all tensors of a state; else compare those with at least two dimensions only.
    """
    given = shapes if whole else matrices(shapes)
    for name, input, classes in _candidates(given, whole):
        try:
            built = shapes_of(name, input, classes)
        except CompressionError:
            continue  # this architecture has no such size, or its package is not installed
        if dict(built if whole else matrices(built)) == dict(given):
            return Match(name, input, classes, whole and dict(built) == dict(shapes))
    return _nearest(given, whole)


def _candidates(given: Shapes, whole: bool) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(model, input, classes) that may fit: by the stored fingerprints, which cost nothing, then by building."""
    tried = 0
    for entry in architectures.known():
        stored = entry.full if whole else entry.matrices
        if stored == architectures.digest(given, entry.head) and tried < MOST_TRIED:
            tried += 1
            try:
                input = tuple(zoo.spec(entry.name).input)
            except CompressionError:
                continue  # the package of this architecture is not installed
            for classes in _classes(entry, given):
                yield entry.name, input, classes
    for name in zoo.names():
        shapes = _own_shapes(name) if whole else matrices(_own_shapes(name))
        if given and shapes.keys() == given.keys():
            for input in _sizes(name):
                for classes in _classes(_own_entry(name), given):
                    yield name, input, classes


@cache
def _own_entry(name: str) -> Entry:
    """The fingerprints of one of the zoo's own models, which are small enough to be built for that."""
    return architectures.entry(name, _own_shapes(name), zoo.spec(name).classes)


def _own_shapes(name: str) -> Shapes:
    known = zoo.spec(name)
    return shapes_of(name, tuple(known.input), known.classes)


def _sizes(name: str) -> list[tuple[int, ...]]:
    """The inputs that one of the zoo's models may have been trained at: its own, and those of the data sets for it."""
    known = zoo.spec(name)
    others = [tuple(info.input) for info in data.infos() if info.kind is known.kind and info.task == known.task]
    return list(dict.fromkeys([tuple(known.input), *(others if known.kind is IMAGE else [])]))


def _classes(entry: Entry, given: Shapes) -> list[int]:
    """The numbers of classes that the head may tell: the lengths of its tensors, the last one's first."""
    lengths = [given[name][0] for name in reversed(entry.head) if given.get(name)]
    return list(dict.fromkeys([*lengths, zoo.spec(entry.name).classes]))


def _nearest(given: Shapes, whole: bool) -> Nearest:
    """The architecture with most names in common, numbers in them apart, and the first thing that differs."""
    patterns = architectures.patterns(given)
    near = sorted(
        ((-_alike(patterns, entry, whole), _apart(entry, given), place) for place, entry in enumerate(_all()))
    )
    for share, _, place in near[:MOST_NEAREST]:
        entry = _all()[place]
        if -share < ALIKE:
            break
        try:
            own_size = _own_shapes(entry.name)
        except CompressionError:
            continue  # its package is not installed
        return Nearest(entry.name, _difference(given, own_size if whole else matrices(own_size), entry.head))
    return Nearest()


@cache
def _all() -> Sequence[Entry]:
    return (*map(_own_entry, zoo.names()), *architectures.known())


def _alike(patterns: frozenset[int], entry: Entry, whole: bool) -> float:
    """The share of names in common, of those of both; of those given alone where others are folded into them."""
    common = len(patterns & entry.patterns)
    return common / max(1, len(patterns | entry.patterns) if whole else len(patterns))


def _apart(entry: Entry, given: Shapes) -> float:
    total = architectures.numbers(given)
    return max(total, entry.params) / max(1, min(total, entry.params))


def _difference(given: Shapes, expected: Shapes, head: Sequence[str]) -> str:
    """What differs first, in words: shapes of the body, then names that one of both lacks, then the head."""
    common = [name for name in expected if name in given and expected[name] != given[name]]
    for name in sorted(common, key=lambda name: name in head):
        return f"{cut(name)} is {_shown(given[name])} here and {_shown(expected[name])} there"
    missing, more = ([n for n in one if n not in other] for one, other in ((expected, given), (given, expected)))
    parts = [f"{_several(missing)} not here" for _ in missing[:1]] + [f"{_several(more)} not there" for _ in more[:1]]
    return " and ".join(parts) or "its order of layers is another"


def _several(names: Sequence[str]) -> str:
    others = (
        f" and {len(names) - 1} more tensors are" if len(names) > 2 else " and one more are" if names[1:] else " is"
    )
    return f"{cut(names[0])}{others}"


def _shown(shape: tuple[int, ...]) -> str:
    return cut("×".join(map(str, shape)) or "a scalar")
