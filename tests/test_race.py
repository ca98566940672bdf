"""Races: methods, seeds and budgets of equal size, planned, started, refused, and filled in on the page."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from opened import Open, errors
from test_match import subject  # noqa: F401  (a fixture)

from compression import match
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.runs import race
from compression.runs.folder import RunFolder

FEW = ("opq", "sequential", "magnitude")


@pytest.fixture(name="network")
def _network(request: pytest.FixtureRequest) -> Subject:
    given: Subject = request.getfixturevalue("subject")
    return given


def test_a_plan_is_every_method_on_every_budget_at_equal_size(network: Subject) -> None:
    budgets = [Budget(method="sequential", sparsity=share, bits=8, epochs=2) for share in (0.05, 0.1)]
    entries = race.plan(network, budgets, [*FEW, "ptq"], [5, 6, 7], "bytes")
    assert [entry.budget.method for entry in entries] == [*FEW, "ptq"] * 2
    for entry in entries:
        assert entry.forecast is not None and entry.target is not None
        size = match.quantity(entry.forecast, "bytes")
        assert 0 < size <= entry.target * 1.000001
        assert entry.seeds == ((5,) if entry.budget.method == "ptq" else (5, 6, 7))
        assert entry.budget.epochs == 2 or entry.budget.method == "ptq"
    assert {entry.target for entry in entries[:4]} != {entry.target for entry in entries[4:]}
    same = [entry for entry in entries if entry.budget.method == "sequential"]
    assert [entry.budget.asks for entry in same] == [budget.asks for budget in budgets], "it is the measure"
    planned = race.runs(entries)
    assert len(planned) == 2 * (3 * 3 + 1)
    assert [budget.seed for budget in planned] == sorted(budget.seed for budget in planned), "seed by seed"
    assert len({repr(sorted(budget.to_dict().items(), key=str)) for budget in planned}) == len(planned)
    assert all(one.seed <= two.seed for one, two in pairwise(planned))


def test_by_sparsity_budgets_are_converted_alone(network: Subject) -> None:
    entries = race.plan(network, [Budget(method="opq", sparsity=0.42)], FEW, [0])
    assert [entry.budget.asks["sparsity"] for entry in entries] == [0.42] * 3
    assert all(entry.forecast is None and entry.met for entry in entries)


def test_what_cannot_race_is_refused(network: Subject) -> None:
    one = [Budget(method="geta", sparsity=0.5)]
    masks = race.plan(network, one, ["geta", "opq"], [0], "macs")
    assert [entry.met for entry in masks] == [True, False], "single zeros save no MACs"
    with pytest.raises(CompressionError, match="opq"):
        race.start(masks)
    for names, seeds, matched, text in (
        ([], [0], "bytes", "needs methods"),
        (["geta"], [], "bytes", "needs methods"),
        (["geta", "geta"], [0], "bytes", "method is named twice"),
        (["geta"], [1, 1], "bytes", "seed is named twice"),
        (["geta"], [0], "seconds", "must be one of"),
        (["nothing"], [0], "bytes", "nothing"),
    ):
        with pytest.raises(CompressionError, match=text):
            race.plan(network, one, names, seeds, matched)


def test_two_hundred_runs_need_a_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    race.check_count(200, False)
    race.check_count(201, True)
    seeds = ",".join(map(str, range(101)))
    command = ["sweep", "--model", "resnet8", "--data", "mnist5k", "--method", "opq", "--runs", str(tmp_path / "runs")]
    assert main([*command, "--methods", "opq,qap", "--seeds", seeds]) == 2
    line = capsys.readouterr().err
    assert "--yes" in line
    assert "202" in line
    assert not (tmp_path / "runs").exists()
    for more in (["--seeds", "0,x"], ["--match", "bytes"], ["--seeds", "0", "--find", "smallest"]):
        assert main([*command, *more]) == 2
        assert more[0] in capsys.readouterr().err or more[2] == "--find"


@pytest.mark.usefixtures("in_this_process")
def test_the_command_line_runs_a_race_as_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "sweep",
        "--model",
        "resnet8",
        "--data",
        "mnist5k",
        "--method",
        "opq",
        "--sparsity",
        "0.5",
        "--bits",
        "4",
    ]
    command += ["--epochs", "0.05", "--methods", "opq,ptq", "--seeds", "3,4", "--match", "bytes"]
    assert main([*command, "--runs", str(tmp_path / "runs"), "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["runs"]) == 3
    folders = [RunFolder.open(tmp_path / "runs", run["run"]) for run in result["runs"]]
    assert [(folder.budget().method, folder.budget().seed) for folder in folders] == [
        ("opq", 3),
        ("ptq", 3),
        ("opq", 4),
    ]
    assert RunFolder.open(tmp_path / "runs", result["run"]).spec()["race"] == {
        "methods": ["opq", "ptq"],
        "seeds": [3, 4],
    }


def test_fifteen_runs_take_six_clicks(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[race.Entry]] = []

    def start(entries: list[race.Entry], **_: object) -> str:
        started.append(entries)
        raise CompressionError("enough for this test")

    monkeypatch.setattr(race, "start", start)
    app = open_page("budget")
    assert "start_race" not in [button.key for button in app.button], "nothing is computed while it is closed"
    app.session_state["race"] = True  # click 1 opens it
    app.run()
    chosen = ["geta"]
    for name in ("sequential", "hesso", "qap", "opq"):  # clicks 2 to 5
        chosen.append(name)
        app.button_group(key="race_methods").set_value(chosen).run()
        assert errors(app) == []
    assert not app.button(key="start_race").disabled
    app.button(key="start_race").click().run()  # click 6
    (entries,) = started
    assert len(race.runs(entries)) == 15
    sizes = [match.quantity(entry.forecast, "bytes") for entry in entries if entry.forecast is not None]
    assert len(sizes) == 5
    assert max(sizes) <= sizes[0] * 1.000001
    assert not list((tmp_path / "runs").glob("sweep-*"))
