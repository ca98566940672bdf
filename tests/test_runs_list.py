"""The list of one's own runs: numbers that sort, filters, names and tags, several at once, a CSV for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opened import Open, errors, page_text
from streamlit.testing.v1 import AppTest
from written import finished

from app import widgets
from app.runs import records, runlist
from compression import cli
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs import labels, summary
from compression.runs.folder import RunFolder
from compression.runs.layout import RunFiles
from compression.runs.store import Store

Listed = list[dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Runs do not start by themselves: there is no slot."""
    created = Store(tmp_path / "runs", slots=0)
    monkeypatch.setattr("app.runs.runlog.store", lambda: created)
    return created


@pytest.fixture
def runs(store: Store) -> list[str]:
    """Three seeds of one budget and three of other sparsities."""
    budgets = [Budget(seed=seed) for seed in range(3)] + [Budget(sparsity=share) for share in (0.2, 0.4, 0.6)]
    return [finished(store.root, 0.97 - 0.01 * i, 4_000 + i, budget) for i, budget in enumerate(budgets)]


def table(app: AppTest) -> Listed:
    frame = next(f.value for f in app.dataframe if "× smaller" in f.value.columns)
    return [dict(row) for _, row in frame.iterrows()]


def test_results_are_numbers(open_page: Open, runs: list[str]) -> None:
    """Score, points lost and size as the points have them, counted by hand."""
    app = open_page("runs", run=runs[0])
    assert errors(app) == []
    rows = {row["run"]: row for row in table(app)}
    assert [rows[run]["test accuracy %"] for run in runs] == [97.0, 96.0, 95.0, 94.0, 93.0, 92.0]
    assert [rows[run]["lost"] for run in runs] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert [rows[run]["bytes"] for run in runs] == list(range(4_000, 4_006))
    assert [rows[run]["seed"] for run in runs] == [0, 1, 2, 0, 0, 0]
    assert rows[runs[0]]["× smaller"] == 20.0
    assert rows[runs[0]]["BOPs %"] == pytest.approx(5.0)


def test_what_is_typed_and_picked_filters(open_page: Open, runs: list[str], store: Store) -> None:
    labels.write(RunFolder.open(store.root, runs[4]), labels.labels("Good one", ["paper"]))
    app = open_page("runs", run=runs[0])
    for text, match in (("GOOD one", runs[4]), ("paper", runs[4]), (runs[2], runs[2])):
        app.text_input(key="runs_search").set_value(text).run()
        assert errors(app) == []
        assert [row["run"] for row in table(app)] == [match]
    app.text_input(key="runs_search").set_value("nothing of it").run()
    assert not any("× smaller" in frame.value.columns for frame in app.dataframe)
    app.text_input(key="runs_search").set_value("").run()
    assert len(table(app)) == len(runs)
    assert {row["run"]: row["name"] for row in table(app)}[runs[4]] == "Good one"


def test_a_run_is_named_on_its_page_and_the_name_is_in_its_folder(
    open_page: Open, runs: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    app = open_page("runs", run=runs[0])
    app.text_input(key=f"name {runs[0]}").set_value(" First  ")
    app.text_input(key=f"tags {runs[0]}").set_value("a, b,a,")
    next(button for button in app.button if button.label == "Save name and tags").click().run()
    assert errors(app) == []
    folder = RunFolder.open(store.root, runs[0])
    assert json.loads(folder.labels_path.read_text()) == {"version": 1, "name": "First", "tags": ["a", "b"]}
    assert "**First: " in page_text(app)
    assert cli.main(["runs", "--runs", str(store.root)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if runs[0] in line)
    assert "First" in line
    labels.write(folder, labels.Labels())
    assert not folder.labels_path.exists()


def test_the_command_line_names_tags_and_lists_what_is_tagged(
    store: Store, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs", str(store.root)]
    assert cli.main(["label", *runs[:3], "--tag", "thesis", "--tag", "seeds", *where]) == 0
    assert cli.main(["label", runs[1], "--name", "Second seed", "--untag", "seeds", *where]) == 0
    assert "Second seed [thesis]" in capsys.readouterr().out
    assert labels.read(RunFolder.open(store.root, runs[0])) == labels.Labels("", ("thesis", "seeds"))
    listed = {}
    for tag in ("thesis", "seeds", "nothing"):
        assert cli.main(["runs", "--tag", tag, *where, "--json", "-"]) == 0
        listed[tag] = {row["run"] for row in json.loads(capsys.readouterr().out)}
    assert listed == {"thesis": set(runs[:3]), "seeds": {runs[0], runs[2]}, "nothing": set()}
    assert cli.main(["runs", "--tag", "nothing", *where]) == 0
    assert "tag nothing" in capsys.readouterr().out
    before = [labels.read(RunFolder.open(store.root, run)) for run in runs]
    for wrong in (["--name", "two"], ["--tag", "a,b"], ["gone", "--tag", "x"], ["--tag", "x" * 41]):
        assert cli.main(["label", runs[0], *(runs[1:2] if wrong[0] == "--name" else []), *wrong, *where]) == 2
    assert cli.main(["label", "--tag", "x", *where]) == 2
    capsys.readouterr()
    assert [labels.read(RunFolder.open(store.root, run)) for run in runs] == before, "all or none"
    assert cli.main(["label", runs[1], *where]) == 0
    assert capsys.readouterr().out.strip() == f"{runs[1]}: Second seed [thesis]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2}',
        '{"version": 1, "name": 3}',
        '{"version": 1, "tags": "a"}',
        '{"version": 1, "name": "a\\nb"}',
        json.dumps({"version": 1, "name": "x" * 121}),
        json.dumps({"version": 1, "tags": [str(i) for i in range(21)]}),
        '{"version": 1, "nam',
    ],
)
def test_damaged_labels_are_one_line_and_the_list_stands(
    open_page: Open, runs: list[str], store: Store, text: str
) -> None:
    folder = RunFiles(store.root / runs[0])
    folder.labels_path.write_text(text)
    with pytest.raises(CompressionError) as error:
        labels.read(folder)
    assert "\n" not in str(error.value) and "labels" in str(error.value)
    rows, problems = summary.summaries(store, store.list())
    assert len(rows) == len(runs) and problems == [str(error.value)]


def test_damaged_labels_leave_the_page_standing(open_page: Open, runs: list[str], store: Store) -> None:
    RunFiles(store.root / runs[0]).labels_path.write_text("{")
    app = open_page("runs", run=runs[1])
    assert errors(app) == [] and len(table(app)) == len(runs)
    assert "labels" in page_text(app)
    assert len(errors(open_page("runs", run=runs[0]))) == 1, "the menu of the run itself says it, too"


@pytest.mark.parametrize(("name", "tags"), [("x" * 121, ()), ("a\nb", ()), ("", ("x" * 41,)), ("", ("a,b",))])
def test_labels_that_cannot_be(name: str, tags: tuple[str, ...]) -> None:
    with pytest.raises(CompressionError):
        labels.labels(name, tags)


def ticking(monkeypatch: pytest.MonkeyPatch, *places: int) -> None:
    """The browser ticks these rows."""
    drawn: Callable[..., Any] = widgets.table

    def table(*given: Any, **options: Any) -> Any:
        event = drawn(*given, **options)
        ticked = options.get("selection_mode") == "multi-row"
        return SimpleNamespace(selection=SimpleNamespace(rows=list(places))) if ticked else event

    monkeypatch.setattr(widgets, "table", table)


def test_several_runs_are_tagged_compared_and_deleted(
    open_page: Open, runs: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = [info.id for info in store.list()]
    ticking(monkeypatch, 1, 2)
    app = open_page("runs", run=newest[0])
    app.toggle(key="runs_several").set_value(True).run()
    app.text_input(key="tag_several").set_value("pair").run()
    app.button(key="add_tag").click().run()
    assert errors(app) == []
    tagged = labels.read_all(store.root, newest)[0]
    assert {run: each.tags for run, each in tagged.items()} == dict.fromkeys(newest[1:3], ("pair",))
    app.button(key="delete_several").click().run()
    assert errors(app) == []
    assert [info.id for info in store.list()] == [newest[0], *newest[3:]]
    app.toggle(key="runs_several").set_value(True).run()
    app.button(key="compare_several").click().run()
    assert errors(app) == []
    assert (app.session_state["at_run"], app.session_state["at_other"]) == (newest[3], newest[4])


def test_the_csv_has_every_number(runs: list[str], store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(widgets.to_csv(records.rows([*runs, "gallery.resnet8-mnist5k.opq", "no"])))))
    assert [row["run"] for row in rows[:6]] == runs
    first, shipped, missing = rows[1], rows[-2], rows[-1]
    assert float(first["score"]) == 0.96 and float(first["lost"]) == pytest.approx(2.0)
    assert (first["seed"], float(first["epochs"]), float(first["bytes"])) == ("1", 4.0, 4_001)
    assert float(rows[3]["ask.sparsity"]) == 0.2
    assert first["created"].startswith("20") and first["compression version"]
    assert shipped["run"].startswith("gallery.resnet8-mnist5k.opq-0"), "a sweep is its runs"
    assert len(shipped["commit"]) == 40
    assert "no run" in missing["state"]


def test_two_metrics_have_a_column_that_says_which() -> None:
    from compression.points import Point
    from compression.runs.index import RunInfo
    from compression.tasks import METRICS

    end = Point(1, 1.0, "final", "test", 0.5, 0.1, 10.0, "packed", 10.0, 1.0, 1.0, 0.1, 0.0, 0.0, {})
    info = RunInfo("r", "done", None, 0, 0, "ptq", "m", "d", 0.0, None, None, None, None, None, None, None, {})
    listed = [summary.Summary(info, labels.Labels(), None, end, METRICS[name]) for name in ("accuracy", "psnr")]
    assert [row["metric"] for row in runlist.rows(listed)] == ["accuracy", "PSNR"]
    assert "test score" in runlist.rows(listed)[0]
