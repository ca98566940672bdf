"""Describing methods imports no torch: lists, forms, refusals and words answer at once, in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "scipy", "pandas", "streamlit", "plotly")

DESCRIBE = """
import json
from compression import methods
from compression.budget import Budget
from compression.methods import document

registry = methods.all_methods()
described = {}
for name, method in registry.items():
    options = {option.name: option.default for option in method.Config.table()}
    budget = method.complete(Budget(method=name, sparsity=0.25, bits=5, options=options))
    method.check_budget(budget)
    method.options(budget)
    described[name] = {
        "plain": method.to_dict(),
        "stages": [stage.name for stage in method.info.stages],
        "controls": [ask.field for ask in method.asks if ask.control()],
        "values": {field: str(value) for field, value in method.values(budget).items()},
        "words": method.describe(budget),
        "caveats": method.caveats({"final": {}}),
        "removes_units": method.removes_units,
        "allocates": method.allocates,
        "unused": method.unused(budget),
        "put": method.put(budget, "--sparsity", 0.5).asks["sparsity"],
        "converted": {other.info.name: other.convert(budget, method).options for other in registry.values()},
    }
print(json.dumps({"methods": described, "page": document.markdown()}, default=dict))
"""
COMMANDS = (
    "methods --json -",
    "methods geta",
    "methods nosuch",
    "allocate resnet8 --method opq --option grid=nosuch",
)
LOADED = f"import sys\nprint([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"


def _fresh(code: str) -> subprocess.CompletedProcess[str]:
    """``code`` in another interpreter, whose last line on the standard error lists the heavy modules it has."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"{code}\n{LOADED}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def described() -> tuple[dict[str, Any], str]:
    """What a fresh interpreter says of the methods, and which heavy modules it has then."""
    answer = _fresh(DESCRIBE)
    return json.loads(answer.stdout), answer.stderr.splitlines()[-1]


def test_describing_every_method_imports_nothing_heavy(described: tuple[dict[str, Any], str]) -> None:
    answer, loaded = described
    assert loaded == "[]"
    assert list(answer["methods"]) == list(methods.names())
    assert len(answer["methods"]) >= 5


def test_the_description_is_the_same_with_torch(described: tuple[dict[str, Any], str]) -> None:
    import torch  # noqa: F401

    for name, answer in described[0]["methods"].items():
        method = methods.get(name)
        assert answer["plain"] == json.loads(json.dumps(method.to_dict(), default=dict))
        assert answer["removes_units"] == (name in ("cc", "geta", "hesso", "sbs", "sequential"))
        assert answer["allocates"] == (name in ("opq", "magnitude", "ptq", "riq"))
        assert answer["unused"] == ([] if "sparsity" in method.values(Budget(method=name)) else ["sparsity"])
        assert answer["put"] == 0.5


@pytest.mark.parametrize("arguments", COMMANDS)
def test_commands_that_describe_import_nothing_heavy(arguments: str) -> None:
    code = f"from compression.cli import main\nmain({arguments.split()})"
    answer = _fresh(code)
    assert answer.stderr.splitlines()[-1] == "[]"
    if arguments.endswith("--json -"):
        assert [method["name"] for method in json.loads(answer.stdout)] == list(methods.names())


def test_importing_a_method_of_a_folder_is_light_and_its_names_are_there() -> None:
    """Public names of a package are imported when they are first used, and only then."""
    code = "from compression.methods import geta, opq\nprint({'allocate', 'attach', 'OPQ'} <= set(dir(opq)))"
    answer = _fresh(f"{code}\n{LOADED}\nprint(callable(opq.allocate), geta.QASSO.__name__, hasattr(opq, 'nosuch'))")
    before, after = answer.stderr.splitlines()
    assert (before, "'torch'" in after) == ("[]", True)
    assert answer.stdout.split() == ["True", "True", "QASSO", "False"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("geta", "opq", {"distill": 0.3, "noise": 0.5}),
        ("geta", "sequential", {"distill": 0.3, "noise": 0.5, "criteria": {"magnitude": 1.0}, "cost": "none"}),
        ("geta", "ptq", {}),
        ("geta", "geta", None),
    ],
)
def test_a_converted_budget_keeps_the_options_that_both_methods_have(
    source: str, target: str, expected: dict[str, Any] | None
) -> None:
    options = {"distill": 0.3, "noise": 0.5, "criteria": {"magnitude": 1.0}, "cost": "none", "clip": "max"}
    budget = Budget(method=source, options=options, lr=0.2)
    converted = methods.get(target).convert(budget, methods.get(source))
    assert converted.options == (options if expected is None else expected)
    assert converted.lr == (0.2 if expected is None else None)
    methods.get(target).check_budget(converted)


def test_an_option_of_one_name_and_another_meaning_is_not_kept() -> None:
    """``clip`` of GETA and of rounding to nearest are two things: ``max`` would be accepted by both."""
    budget = Budget(method="geta", options={"clip": "max"})
    assert methods.get("ptq").convert(budget, methods.get("geta")).options == {}
    with pytest.raises(CompressionError, match="clip"):
        methods.get("ptq").check_budget(budget.replace(options={"clip": "fitted"}))
