"""Every reason that the graph can give has a code, a sentence of the library and one of the Groups page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
import torch
from torch import nn

from app.groups import dependency_text
from app.groups.sources import Sources
from compression import zoo
from compression.graph import Code, Graph, Reason, register_rule, trace
from compression.graph.reasons import as_reason
from compression.graph.values import combine

ROOT = Path(__file__).parent.parent
# their last argument is a reason
SINKS = set("tie freeze blur average collapse combine keep require _singular _freeze_parameter".split())
VALUES = {"parameter": "conv.weight", "norm": "an RMS norm", "name": "aten.foo", "text": "my rule says so"}


def trees(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    """The modules of a folder, parsed."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def codes_in_use() -> set[str]:
    """The codes that modules of the graph name, the table of codes itself left out."""
    return {
        node.attr
        for path, tree in trees("compression/graph")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Code" and path.name != "reasons.py"
    }


def example(code: Code) -> Reason:
    """A reason with this code and a value for each parameter that its sentence names."""
    names = [name for _, name, _, _ in Formatter().parse(code.value) if name]
    return Reason(code, {name: VALUES[name] for name in names})


def test_every_code_has_a_text_on_both_sides() -> None:
    codes = {code.name for code in Code}
    assert codes_in_use() == codes - {"custom"}, "no code without a use, no use without a code"
    assert set(dependency_text.TIES) | set(dependency_text.FROZEN) | {"custom"} == codes


def test_the_library_gives_codes_not_words() -> None:
    words = [
        f"{path.name}:{node.lineno}"
        for path, tree in trees("compression/graph")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[-1], (ast.Constant, ast.JoinedStr))
        if (node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)) in SINKS
    ]
    assert not words


def test_the_groups_page_reads_no_words() -> None:
    imported = {
        name
        for _, tree in trees("app/groups")
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    }
    assert "app" in imported and not imported & {"re", "regex", "fnmatch"}


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_sentences_are_whole(code: Code) -> None:
    reason = example(code)
    assert "{" not in str(reason)
    for sentence in (
        dependency_text.tie(reason, "here", ("one", "two")),
        dependency_text.tie(reason, "", ()),
        dependency_text.frozen(reason, "there"),
        dependency_text.frozen(reason),
    ):
        assert re.fullmatch(r"[A-Z`].*[.]", sentence), sentence
        assert "{" not in sentence and "  " not in sentence and " ." not in sentence


def test_reasons_are_compared_by_code_and_parameters() -> None:
    one, same, other = (Reason(Code.reduced, {"name": name}) for name in ("amax", "amax", "prod"))
    assert one == same and hash(one) == hash(same) and one != other and len({one, same, other}) == 2
    assert as_reason(one) is one and as_reason(Code.mean) == Reason(Code.mean)


@pytest.mark.parametrize("name", ["resnet8", "vit_tiny", "mobilenet_small"])
def test_ties_of_real_networks_name_their_places(name: str) -> None:
    graph = trace(zoo.build(name), torch.zeros(1, *zoo.spec(name).input))
    sources = Sources(graph.to_dict())
    for group in graph.groups:
        for tie in group.ties:
            into = sources.into(tie.op)
            assert into, "something flows into every operation"
            assert tie.cause.code.name in dependency_text.TIES
            assert f"`{tie.op}`" in dependency_text.tie(tie.cause, tie.op, into)
        if group.cause is not None:
            assert group.cause.code.name in dependency_text.FROZEN
            where = sources.visible(group.place, group.nodes)
            assert where is not None and f"`{where}`" in dependency_text.frozen(group.cause, where)


def test_the_json_reports_code_and_words() -> None:
    graph = trace(zoo.build("vit_tiny"), torch.zeros(1, *zoo.spec("vit_tiny").input))
    groups = graph.to_dict()["groups"]
    assert {group["code"] for group in groups} == {None, "norm_averages", "next_to_output"}
    assert [group["reason"] for group in groups] == [group.reason for group in graph.groups]
    ties = [(tie["code"], tie["why"]) for group in groups for tie in group["ties"]]
    assert ("one_head", Code.one_head.value) in ties
    assert all(Code[code].value == why for code, why in ties)


def test_a_residual_add_names_both_sides() -> None:
    graph = trace(zoo.build("resnet8"), torch.zeros(1, 1, 28, 28))
    into = Sources(graph.to_dict()).into("layer2.0:add")
    assert into == ("layer2.0.shortcut.0", "layer2.0.conv2")
    sentence = dependency_text.tie(Reason(Code.residual_add), "layer2.0:add", into)
    assert re.findall(r"`(.*?)`", sentence) == ["layer2.0:add", *into]


FROZEN, TIED = "my rule says so", "met in my rule"


class Shifted(nn.Module):
    """Two layers whose outputs meet in an operation with a rule of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.logaddexp(self.one(x), self.two(x)))


@pytest.fixture
def graph_of_own_rule() -> Iterator[Graph]:
    from compression.graph.rules import registry

    before = registry._RULES.copy()

    @register_rule("aten.logaddexp")
    def logaddexp(step):  # type: ignore[no-untyped-def]
        step.atoms.blur(step.args[0].all_atoms(), step.where, "zeros add up")
        step.atoms.freeze(step.args[1].all_atoms(), step.where, FROZEN)
        return step.output(*combine(step.args, step.shape, step.atoms, step.where, TIED))

    yield trace(Shifted(), torch.zeros(2, 4))
    registry._RULES.clear()
    registry._RULES.update(before)


def test_the_words_of_a_rule_of_ones_own_are_repeated(graph_of_own_rule: Graph) -> None:
    group = graph_of_own_rule.group("one")
    assert (group.reason, group.place, group.exact) == (FROZEN, "logaddexp", False)
    assert group.cause == Reason(Code.custom, {"text": FROZEN})
    assert FROZEN in dependency_text.frozen(group.cause)
    (tie,) = (tie for tie in group.ties if tie.op == "logaddexp")
    assert tie.why == TIED
    sentence = dependency_text.tie(tie.cause, tie.op, ("two", "one"))
    assert re.findall(r"`(.*?)`", sentence) == ["logaddexp", "two", "one"]
    assert TIED in sentence
