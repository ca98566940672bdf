"""The Compare page without a browser: empty, with one run, with many, with wrong addresses; what a pick shows."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from opened import Open, errors, numbers, opener, page_text, targets
from streamlit.testing.v1 import AppTest
from written import DENSE, begun, finished, point

from app import names, nav
from app.compare import finals
from compression.budget import Budget
from compression.jobs import export_run
from compression.jobs.sidejob import SideJob
from compression.plots.axes import AXES
from compression.plots.candidates import Candidate, candidates_info, verdict
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec

SECONDS = 60


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the Compare page, without the gallery that stands beside the first runs; keywords go into the address."""
    return partial(opener(tmp_path / "runs", monkeypatch), "compare", gallery_shown="false")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def options(app: AppTest, key: str) -> list[str]:
    return [str(option) for option in app.selectbox(key=key).options]


def advice(app: AppTest) -> str:
    """The line that answers the page's question."""
    (line,) = (e.value for e in app.markdown if e.value.startswith(":material/recommend:"))
    return str(line).partition(": ")[2]


def beside(app: AppTest, figure: str) -> list[str]:
    """One figure of both runs, and the difference."""
    side = next(table.value for table in app.table if "difference" in table.value.columns)
    return list(side[side[""] == figure].iloc[0, 1:])


def candidate(root: Path, run: str) -> Candidate:
    """A finished run, read from its own files."""
    folder = RunFolder.open(root, run)
    budget, done = folder.budget(), json.loads(folder.result_path.read_text())
    return Candidate(run, names.request(budget.to_dict()), budget.method, done["baseline"], done["final"])


def sentence_on(root: Path, run: str) -> str:
    """The library's sentence on a run, among all that are finished."""
    candidates = {path.parent.name: candidate(root, path.parent.name) for path in root.glob("*/result.json")}
    return verdict(candidates_info(list(candidates.values()), AXES["bytes"]), candidates[run])


def test_no_runs_offers_the_next_click(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.gallery.gallery.ROOT", tmp_path / "none")
    app = open_page()
    assert app.title[0].value == nav.PAGES["compare"].question
    assert targets(app) == ["budget"]
    assert app.get("plotly_chart") == app.selectbox == []
    assert errors(app) == []


def test_one_run_says_that_it_is_alone(open_page: Open, root: Path) -> None:
    run = finished(root, 0.97, 8_000)
    app = open_page()
    assert errors(app) == []
    assert sentence_on(root, run) in page_text(app)
    assert AXES["bytes"].unbeaten not in page_text(app)
    assert advice(app).startswith(AXES["bytes"].least)
    assert "1 point: **GETA" in advice(app) and advice(app).endswith("**, 8.00 kB.")
    with pytest.raises(KeyError):
        app.selectbox(key="pick_other")


def test_a_picked_run_is_explained_from_its_files(open_page: Open, root: Path) -> None:
    small, good = finished(root, 0.90, 4_000, Budget(sparsity=0.8)), finished(root, 0.97, 8_000)
    app = open_page(run=small)
    assert errors(app) == []
    assert sentence_on(root, small) in page_text(app)
    assert numbers(sentence_on(root, small)) == [20.0, 8.0]
    assert "“dog” in 3 of 10 images" in page_text(app)
    assert "Counted on 20 test images" in page_text(app)
    assert len(app.get("plotly_chart")) == 4
    app.selectbox(key="pick_run").set_value(good).run()
    assert app.query_params["run"] in (good, [good])
    assert sentence_on(root, good) in page_text(app)
    assert numbers(sentence_on(root, good)) == [10.0, 1.0]
    app.selectbox(key="pick_other").set_value(small).run()
    assert app.query_params["other"] in (small, [small])
    assert not app.exception
    assert beside(app, "packed size") == ["8.00 kB", "4.00 kB", "−4.00 kB"]


def test_without_a_pick_the_page_follows_the_accuracy_that_may_go(open_page: Open, root: Path) -> None:
    small, good = finished(root, 0.94, 4_000, Budget(sparsity=0.8)), finished(root, 0.972, 8_000)
    app = open_page()
    assert app.selectbox(key="pick_run").value == good
    for key, expected in (("5", small), ("0.5", good)):
        followed = open_page(loss=key)
        assert followed.selectbox(key="pick_run").value == expected
        assert "run" not in followed.query_params, "what is only followed is not written into the address"
    line = advice(open_page(loss="0.5"))
    assert AXES["bytes"].least not in line, "no run loses so little"
    assert numbers(line)[0] == 0.5
    assert f"**{candidate(root, good).title}**" in line


@pytest.mark.parametrize("address", ["nosuch", "../../etc", "x" * 400])
def test_a_wrong_run_gets_one_line_and_the_front_stays(open_page: Open, root: Path, address: str) -> None:
    finished(root, 0.97, 8_000)
    app = open_page(run=address, other=address)
    assert len(errors(app)) == 1
    assert "No run" in errors(app)[0]
    assert app.get("plotly_chart")
    assert "run" not in app.query_params


def test_only_runs_of_one_model_and_data_share_a_front(open_page: Open, root: Path) -> None:
    finished(root, 0.97, 8_000)
    finished(root, 0.96, 7_000, Budget(sparsity=0.6))
    other = finished(root, 0.70, 9_000, Budget(model="resnet20", data="cifar10"))
    app = open_page()
    assert options(app, "compare_pair") == [
        f"{names.subject('resnet8', 'mnist5k')}: 2 finished",
        f"{names.subject('resnet20', 'cifar10')}: 1 finished",
    ]
    assert len(options(app, "pick_run")) == 2
    app.selectbox(key="compare_pair").set_value(("resnet20", "cifar10")).run()
    assert len(options(app, "pick_run")) == 1
    assert app.query_params["model"] in ("resnet20", ["resnet20"])
    by_link = open_page(run=other)
    assert by_link.selectbox(key="compare_pair").value == ("resnet20", "cifar10"), "the run decides"


def test_what_has_no_final_point_is_listed_with_its_reason(open_page: Open, root: Path) -> None:
    finished(root, 0.97, 8_000)
    reason = "the loss became infinite"
    begun(root, Budget(sparsity=0.9), DENSE, state="failed", error=reason)
    app = open_page()
    assert [numbers(e.label) for e in app.expander if numbers(e.label)] == [[1]], "how many are not shown"
    assert reason in page_text(app)
    assert len(options(app, "pick_run")) == 1
    assert errors(app) == []


def test_a_sweep_is_its_runs(open_page: Open, root: Path) -> None:
    run = finished(root, 0.97, 8_000)
    spec = new_spec(Budget(), Store(root), "sweep", children=[run], values={})
    sweep = RunFolder.create(root, spec)
    with EventWriter(sweep.events_path) as events:
        events.state("running", pid=1, host="elsewhere")
        events.state("done")
    assert finals.pairs(Store(root).list()) == {("resnet8", "mnist5k"): 1}
    app = open_page(run=sweep.id)
    assert errors(app) == []
    assert app.selectbox(key="pick_run").value == run
    shown, followed = [caption.value for caption in app.caption], [caption.value for caption in open_page().caption]
    assert len(set(shown) - set(followed)) == 1, "one line more: the address names what is not on the chart"


def test_only_failed_runs(open_page: Open, root: Path) -> None:
    begun(root, Budget(), DENSE, state="failed", error="no")
    app = open_page()
    assert targets(app)[0] == "budget"
    assert app.get("plotly_chart") == []
    assert errors(app) == []


def test_a_damaged_bundle_is_reported_in_one_line(open_page: Open, root: Path) -> None:
    run = finished(root, 0.97, 8_000)
    path = root / run / "bundle" / "weights.packed"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(errors(open_page(run=run))) == 1
    path.unlink()
    assert "annot read" in errors(open_page(run=run))[0]


def test_the_index_gives_final_points_without_the_way(root: Path) -> None:
    way = [point(0.5, 9_000, "joint", "validation")]
    run = begun(root, Budget(), DENSE, *way, point(0.97, 8_000, "final"), state="done").id
    store = Store(root)
    store.sync()
    assert [p.phase for p in store.points(run)[run]] == ["baseline", "joint", "final"]
    assert [p.phase for p in store.points(run, phases=("baseline", "final"))[run]] == ["baseline", "final"]


def exported(root: Path, run: str, *milliseconds: float) -> None:
    """What an export leaves that measured these times, the dense model's first."""
    folder = RunFolder.open(root, run)
    variants = [{"name": str(i), "median": time} for i, time in enumerate(milliseconds)]
    result = {"latency": {"variants": variants}}
    assert SideJob("export", folder, folder.bundle / "export.json").carry_out(lambda say: result) == 0
    export_run.bundle_path(folder).write_bytes(b"zip")


def test_latency_is_a_cost_where_exports_have_measured_it(open_page: Open, root: Path) -> None:
    slow, quick, untimed = (finished(root, accuracy, 4_000) for accuracy in (0.97, 0.95, 0.9))
    app = open_page(cost="Latency")
    assert errors(app) == []
    assert numbers(advice(app)) == [], "no run can be advised"
    assert any(caption.value.startswith("3 runs ") for caption in app.caption)
    assert targets(app).count("export") == 1, "where a latency is measured"
    assert not app.get("plotly_chart"), "an empty chart says nothing"
    exported(root, slow, 4.0, 3.0, 2.0)
    exported(root, quick, 4.0, 0.5, 8.0)
    app = open_page(cost="Latency", run=quick, other=slow)
    assert errors(app) == []
    assert "8.0× faster" in page_text(app) and "3.0 points less " in page_text(app)
    assert any(caption.value.startswith("1 run ") for caption in app.caption)
    assert untimed not in options(app, "pick_run")
    assert beside(app, "latency") == ["0.5 ms", "2 ms", "+1.5 ms"]
