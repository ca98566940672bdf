"""Names in the house: nobody outside the methods names one, names are the field's terms, tests compare no sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from compression import methods

ROOT = Path(__file__).resolve().parents[1]
OWN = "compression.methods"

HOMONYMS = {
    ("compression/explain/units.py", "magnitude"): "a saliency criterion",
    ("compression/pruning/criteria.py", "magnitude"): "a saliency criterion",
    ("compression/plots/saliency.py", "magnitude"): "a saliency criterion",
    ("app/groups/saliencyoverlay.py", "magnitude"): "a saliency criterion",
    ("compression/quant/native.py", "cc"): "a compiler",
}
"""(file, word): what it means there, which is no method."""

PUBLIC = "compression/__init__.py"
"""The map of public names: it names what users import."""

IDIOM = {
    "found", "told", "asked", "gone", "made", "kept", "said", "liked", "wanted", "of", "goes", "tell", "went",
}  # fmt: skip
EVERYWHERE = ("compression", "app", "pages", "lessons", "tests")
LEFT, SIDES = "left", {"right", "top"}
"""``left`` is a side where one of the others is a name in the same function; elsewhere it means "remaining"."""

FIELDS = {"compression/runs/resultfile.py": {"gone", "found"}, "compression/runs/specfile.py": {"asked"}}
"""File → fields of a file format that it types: what is written there is a contract."""

MOST_SENTENCES = 3
"""Asserts that compare English sentences, refusals aside; lower it when there are fewer."""

PHRASE = re.compile(r"(?<![\w-])(?:[A-Za-z][a-z']*[,:;]? ){2,}[A-Za-z][a-z']*")
SEARCHES = {"startswith", "endswith", "count", "index", "find", "search", "match", "fullmatch"}
REFUSALS = {"refused", "caught", "err", "errors", "error", "stderr", "problems"}
"""Names and keys of refusals, whose words are a contract."""


def _sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _method_modules() -> dict[str, str]:
    """Name → module, of the methods that come with the project."""
    modules = {name: type(method).__module__ for name, method in methods.all_methods().items()}
    return {name: ".".join(module.split(".")[:3]) for name, module in modules.items() if module.startswith(f"{OWN}.")}


def _within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def _named_methods(tree: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    """Names of methods in a file's strings and imports, as often as they occur."""
    for node in ast.walk(tree):
        mentioned: list[str] = []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (name for name in modules if name == node.value)
            mentioned = [node.value]  # an import by name
        elif isinstance(node, ast.Import):
            mentioned = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            mentioned = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in mentioned:
            yield from (name for name, place in modules.items() if _within(module, place))


def test_nothing_outside_a_method_names_it() -> None:
    modules = _method_modules()
    assert len(modules) >= 5
    violations: dict[str, list[str]] = {}
    homonyms = set()
    for file, tree in _sources("compression", "app", "pages"):
        own = {name for name, place in modules.items() if _within(file.removesuffix(".py").replace("/", "."), place)}
        for name in _named_methods(tree, modules):
            if (file, name) in HOMONYMS:
                homonyms.add((file, name))
            elif name not in own and file != PUBLIC:
                violations.setdefault(file, []).append(name)
    assert homonyms == set(HOMONYMS)
    assert not violations


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('draft(method="opq")', ["opq"]),
        ("from compression.methods.opq.bits import Bits", ["opq"]),
        ("from compression.methods import default, ptq", ["ptq"]),
        ("import compression.methods.geta.qasso", ["geta"]),
        ('importlib.import_module("compression.methods.geta.qasso")', ["geta"]),
        ("from compression.methods import get\nfrom compression.methods.base import Method", []),
        ('text = "opq and more"; opq = compression.methods.options', []),
    ],
)
def test_names_of_methods_are_recognized(source: str, names: list[str]) -> None:
    assert list(_named_methods(ast.parse(source), _method_modules())) == names


def _bound(node: ast.AST) -> list[str]:
    """Names that one node gives to something."""
    if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        return [node.id if isinstance(node, ast.Name) else node.attr]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.MatchAs, ast.MatchStar, ast.ExceptHandler)):
        return [node.name] if node.name else []
    if isinstance(node, ast.alias):
        return [node.asname] if node.asname else []
    return []


def _idioms(tree: ast.AST) -> Iterator[str]:
    """Names of the idiom that a file binds, as often as it does."""
    scopes = (ast.FunctionDef, ast.ClassDef, ast.Module)
    pending: list[tuple[ast.AST, set[str]]] = [(tree, set())]
    while pending:
        node, around = pending.pop()
        if isinstance(node, scopes):
            around = {name for each in ast.walk(node) for name in _bound(each)}
        for name in _bound(node):
            if name in IDIOM or (name == LEFT and not around & SIDES):
                yield name
        pending += [(child, around) for child in ast.iter_child_nodes(node)]


def test_names_are_the_terms_of_the_field() -> None:
    violations = {file: list(_idioms(tree)) for file, tree in _sources(*EVERYWHERE)}
    for file, names in FIELDS.items():
        assert set(violations.pop(file)) == names
    assert not {file: names for file, names in violations.items() if names}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("found = 1", ["found"]),
        ("def tell(asked, *, kept=1): ...", ["asked", "kept", "tell"]),
        ("class made:\n    of: int", ["made", "of"]),
        ("self.told = 1", ["told"]),
        ("[said for said in lines]", ["said"]),
        ("try: ...\nexcept OSError as told: ...", ["told"]),
        ("import numpy as wanted", ["wanted"]),
        ("left = total - used", ["left"]),
        ("def f():\n    left, right = st.columns(2)", []),
        ("def f():\n    left = 1\ndef g():\n    right = 1", ["left"]),
        ("result = file.tell() + box.left; foundation = requested", []),
    ],
)
def test_names_of_the_idiom_are_recognized(source: str, names: list[str]) -> None:
    assert sorted(_idioms(ast.parse(source))) == names


def _texts(node: ast.AST) -> Iterator[str]:
    """Literal texts in an operand; a formatted value is no word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "0" for part in node.values)
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.BinOp)):
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def _compares_a_sentence(statement: ast.Assert) -> bool:
    """Whether an assert compares or searches a phrase of three or more words that is not a refusal's."""
    operands: list[ast.expr] = []
    for node in ast.walk(statement.test):
        if isinstance(node, ast.Compare):
            operands += [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES:
            operands += node.args
        elif REFUSALS & {getattr(node, field, None) for field in ("id", "attr", "value")}:
            return False
    return any(PHRASE.search(text) for operand in operands for text in _texts(operand))


def _sentences(tree: ast.AST) -> int:
    return sum(isinstance(node, ast.Assert) and _compares_a_sentence(node) for node in ast.walk(tree))


def test_fewer_and_fewer_asserts_compare_sentences() -> None:
    counts = {file: count for file, tree in _sources("tests") if (count := _sentences(tree))}
    assert sum(counts.values()) <= MOST_SENTENCES, counts


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('assert text == "three words here"', 1),
        ('assert f"{count} runs are used" in text', 1),
        ('assert any("one, two: three" in line for line in lines)', 1),
        ('assert text.startswith("three words here")', 1),
        ('assert text == "three words here, " + name', 1),
        ('assert lines == ["three words here"]', 1),
        ('assert "three words here" in capsys.readouterr().err', 0),
        ('assert "three words here" in refused(capsys)', 0),
        ('assert result["error"] == "three words here"', 0),
        ('assert command == "python -m compression train --model resnet8 --data few"', 0),
        ('assert key == f"option {method} {name}"', 0),
        ('assert name == "two words", "three words here"', 0),
        ('assert press("three words here") == 3', 0),
        ('assert row["three words here"] == 3', 0),
    ],
)
def test_sentences_in_asserts_are_recognized(source: str, count: int) -> None:
    assert _sentences(ast.parse(source)) == count
