"""Every reason that the graph can give has a plain sentence; those of real networks name the right places."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from app.groups import dependency_text
from compression import zoo
from compression.graph import trace

SOURCES = sorted((Path(__file__).parent.parent / "compression" / "graph").rglob("*.py"))
# their last argument is a reason
TELLERS = set("tie freeze blur average collapse combine keep require _singular _freeze_parameter".split())
# what the fields of formatted reasons can hold
FIELDS = {
    "verb": ["added to", "combined with"],
    "kind": ["a constant of fixed size", "an axis that cannot be cut", "the model's input"],
    "name": ["a softmax", "a running sum", "amax", "prod"],
    "parameter": ["conv.weight"],
    "_module(step)": ["a layer norm", "an RMS norm"],
    "step.op": ["aten.foo"],
    "step.op.split('.')[1]": ["argmax"],
}


def texts(node: ast.expr, names: dict[str, list[ast.expr]]) -> Iterator[str]:
    """The strings an expression can be; names and calls are followed inside their module."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, names)
        yield from texts(node.orelse, names)
    elif isinstance(node, ast.JoinedStr):
        parts = [
            [value.value] if isinstance(value, ast.Constant) else FIELDS[ast.unparse(value.value)]  # type: ignore[attr-defined]
            for value in node.values
        ]
        yield from ("".join(map(str, choice)) for choice in product(*parts))
    else:
        called = node.func if isinstance(node, ast.Call) else node
        for value in names.get(ast.unparse(called), []):
            yield from texts(value, names)


def reasons() -> dict[str, str]:
    """Every reason in the sources of the graph → where it stands."""
    found: dict[str, str] = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names.setdefault(node.targets[0].id, []).append(node.value)
            if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return) and node.body[-1].value:
                names.setdefault(node.name, []).append(node.body[-1].value)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
                if name in TELLERS:
                    found.update((text, f"{path.name}:{node.lineno}") for text in texts(node.args[-1], names))
    return found


def test_every_reason_has_its_sentence() -> None:
    found = reasons()
    assert {"residual add", "adjacent to the output", "normalised together with its layer", "user"} <= set(found)
    assert "added to the model's input" in found
    assert len(found) > 60, "the sources are read"
    missing = {reason: where for reason, where in found.items() if not dependency_text.known(reason)}
    assert not missing, "app/groups/dependency_text.py needs a sentence for each of these"


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_sentences_are_whole(reason: str) -> None:
    for said in (
        dependency_text.tie(reason, dependency_text.Place("here", ("one", "two"))),
        dependency_text.frozen(reason, "there"),
        dependency_text.frozen(reason),
    ):
        assert re.fullmatch(r"[A-Z`].*[.]", said), said
        assert "{" not in said and "  " not in said and " ." not in said


@pytest.mark.parametrize("name", ["resnet8", "vit_tiny", "mobilenet_small"])
def test_ties_of_real_networks_name_their_places(name: str) -> None:
    graph = trace(zoo.build(name), torch.zeros(1, *zoo.spec(name).input))
    places = dependency_text.Places(graph.to_dict())
    for group in graph.groups:
        for tie in group.ties:
            place = places.of(tie.op)
            assert tie.why in dependency_text.TIES
            assert place.sources, "something flows into every operation"
            assert f"`{tie.op}`" in dependency_text.tie(tie.why, place)
        if group.reason:
            assert "It must stay:" not in dependency_text.frozen(group.reason, places.frozen(group.place, group.nodes))


def test_a_residual_add_names_both_sides() -> None:
    graph = trace(zoo.build("resnet8"), torch.zeros(1, 1, 28, 28))
    place = dependency_text.Places(graph.to_dict()).of("layer2.0:add")
    assert set(place.sources) == {"layer2.0.conv2", "layer2.0.shortcut.0"}
    assert dependency_text.tie("residual add", place) == (
        "`layer2.0:add` adds the output of `layer2.0.shortcut.0` to that of `layer2.0.conv2`: "
        "channel i of one is channel i of the other."
    )


def test_a_reason_of_a_rule_of_ones_own_is_repeated() -> None:
    assert dependency_text.frozen("my rule says so") == "It must stay: my rule says so."
    assert "(my rule says so)" in dependency_text.tie("my rule says so", dependency_text.Place("op", ("a",)))
