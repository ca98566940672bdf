"""Mutations of JSON values by their structure, and of bytes; each is decided by the random generator alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

DEEP, LONG, HUGE, INFINITE, UNDEFINED, LONE = (f"@raw {number}@" for number in range(6))
RAW = {
    DEEP: "[" * 10_000 + "]" * 10_000,
    LONG: "7" * 5_000,
    HUGE: "1e400",
    INFINITE: "-Infinity",
    UNDEFINED: "NaN",
    LONE: '"\\ud800"',
}
"""What :mod:`json` does not write, by the text that stands for it until the value has been written."""

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**33, 2**40, 2**53, 2**62, 2**63 - 1,
    2**63, 2**64, -(2**31), -(2**63), 10**400, 0.0, -0.0, 0.5, 1.5, -1.5, 1e-320, 1e15, 1e300, -1e300, "", "x", "1",
    "nan", "..", "../victim", "a/b", "\0", "\n\n", "é" * 300, "y" * 100_000, [], {}, [[]], [{}], {"": None}, [0],
    [1, 2], [2, 1], [-1], [0, 0, 0, 0], [2**40, 2**40], [None], ["x"], {"x": 1}, {"x": [1]}, {"x": {"y": {}}},
    [1] * 1_000, *RAW,
]  # fmt: skip


def json_mutant(random: Random, value: Any) -> str:
    """A JSON text near ``value``: one to four of its places replaced, removed, copied, renamed or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        value = _changed(random, value)
    text = json.dumps(value)
    for mark, raw in RAW.items():
        text = text.replace(json.dumps(mark), raw)
    return text


def _changed(random: Random, value: Any) -> Any:
    places = list(_places(value))
    if not places or random.random() < 0.02:
        return random.choice(NASTY)
    holder, key = random.choice(places)
    random.choice(_CHANGES)(random, holder, key)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (object or list, key in it); of long lists the first entries, so that each field is met."""
    places: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            places += [(item, key) for key in item]
            stack += item.values()
        elif isinstance(item, list):
            places += [(item, place) for place in range(min(len(item), 6))]
            stack += item[:6]
    return places


def _replace(random: Random, holder: Any, key: Any) -> None:
    holder[key] = copy.deepcopy(random.choice(NASTY))


def _near(random: Random, holder: Any, key: Any) -> None:
    """Another number of about the same size, where it is one."""
    if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] = random.choice((-holder[key], holder[key] + 1, holder[key] - 1, holder[key] * 2, 2 * 10**6))
    else:
        _replace(random, holder, key)


def _remove(random: Random, holder: Any, key: Any) -> None:
    del holder[key]


def _copy(random: Random, holder: Any, key: Any) -> None:
    """Twice there: in a list, or under another name of the same object."""
    if isinstance(holder, list):
        holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[random.choice(list(holder))] = copy.deepcopy(holder[key])


def _rename(random: Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        name = random.choice((f"{key}x", "", "budget", "__class__", "\n", "job", key.upper(), "z" * 10_000))
        holder[name] = holder.pop(key)
    else:
        holder[key] = [holder[key]]


def _wrap(random: Random, holder: Any, key: Any) -> None:
    holder[key] = random.choice(([holder[key]], {"value": holder[key]}, [[holder[key]] * 3]))


_CHANGES: list[Callable[[Random, Any, Any], None]] = [
    _replace,
    _replace,
    _replace,
    _near,
    _remove,
    _copy,
    _rename,
    _wrap,
]


def byte_mutant(random: Random, data: bytes) -> bytes:
    """Bytes near ``data``: bits flipped, a stretch zeroed, cut out, repeated or overwritten, or the end cut off."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(changed) + 1)
        length = min(len(changed) - at, random.choice((1, 2, 4, 8, 64, 4096)))
        kind = random.randrange(8)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << random.randrange(8)
        elif kind == 1:
            changed[at : at + length] = bytes(length)
        elif kind == 2:
            changed[at : at + length] = b"\xff" * length
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length]
        elif kind == 6:
            source = random.randrange(len(changed) + 1)
            changed[at : at + length] = changed[source : source + length]
        else:
            changed[at : at + length] = random.randbytes(length)
    return bytes(changed)


def text_mutant(random: Random, value: Any) -> bytes:
    """The bytes of a JSON file: changed by structure, or (one in five) by bytes as well or instead."""
    text = json_mutant(random, value) if random.random() < 0.9 else json.dumps(value)
    data = text.encode("utf-8", "surrogatepass")
    return byte_mutant(random, data) if random.random() < 0.2 or not text else data
