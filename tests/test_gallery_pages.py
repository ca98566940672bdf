"""The gallery on the pages, without a browser: with no runs of one's own and with some, damaged, unknown; the tour."""

from __future__ import annotations

import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
from opened import Open, errors, links, page_text, targets
from streamlit.testing.v1 import AppTest
from test_gallery_runs import fingerprint
from written import finished

from app import names, nav
from app.gallery import gallery, gallerycards, tour
from compression import cli, methods
from compression.budget import Budget
from compression.jobs import export_run as export_job
from tests.waiting import ended

SECONDS = 120
GETA, OTHER = "gallery.resnet8-mnist5k.geta", "gallery.resnet8-mnist5k.ptq"
GENTLE = "gallery.resnet8-mnist5k.geta-gentle"
SWEEP = "gallery.resnet8-mnist5k.opq"
CIFAR = "gallery.resnet20-cifar10jpeg.w4-s39"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["runs", "compare", "explain", "export"])
def test_a_run_of_the_gallery_opens_on_every_page_from_its_address(
    open_page: Open, root: Path, name: str, own: bool
) -> None:
    if own:
        finished(root, 0.9, 4_000, Budget(sparsity=0.8))
    before = fingerprint(gallery.ROOT)
    app = open_page(name, run=GETA)
    assert errors(app) == []
    assert app.query_params["run"] in (GETA, [GETA]), "a copied link opens the same view"
    final = gallery.find(GETA).final
    assert final is not None
    accuracy = f"{100 * final['accuracy']:.1f} %"
    if name != "explain":
        assert accuracy in [metric.value for metric in app.metric]
    else:
        assert len(app.get("plotly_chart")) == 6
    assert "delete" not in [button.key for button in app.button]
    assert fingerprint(gallery.ROOT) == before, "looking changes nothing"


def test_start_offers_the_gallery_and_the_try_button(open_page: Open, root: Path) -> None:
    app = open_page("start")
    assert f"**{app.button(key='try').label}**" in tour.STOPS[-1].text, "the tour ends with this button"
    first, *others = gallery.read().collections
    assert first.name == "resnet8-mnist5k"
    openable = {each.name: [e.name for e in each.exhibits if e.whole and e.name in each.shown] for each in others}
    cards = [label.split()[-1] for label in links(app) if label.startswith(("Open run", "Open sweep"))]
    assert cards == [*first.shown, *(name for names in openable.values() for name in names[: gallerycards.IN_A_ROW])]
    assert {each for each, names in openable.items() if names} == {
        "siren-chelsea", "unet_small-digit-masks", "detector_tiny-digit-boxes"
    }  # fmt: skip
    final = gallery.find(GETA).final
    assert final is not None
    assert f"**{100 * final['accuracy']:.1f} % accuracy" in page_text(app)
    assert len(app.get("plotly_chart")) == 1
    assert "CIFAR-10 (JPEG-75): " in "\n".join(fold.label for fold in app.expander)
    assert any(element.value.startswith(f"**{names.subject('resnet8', 'mnist5k')}: ") for element in app.markdown)
    mine = names.subject("resnet8", "mnist5k")
    assert not any(element.value.endswith(f": {mine}**") for element in app.markdown)
    finished(root, 0.9, 4_000)
    app = open_page("start")
    assert len(app.get("plotly_chart")) == 1
    assert any(f": {mine}**" in element.value for element in app.markdown)


def test_runs_lists_the_gallery_beside_ones_own(open_page: Open, root: Path) -> None:
    app = open_page("runs")
    assert targets(app)[0] == "", "the first run starts on Start"
    listed = app.dataframe[-1].value
    assert GETA in list(listed["run"])
    assert set(listed["data"]) == {gallery.data_label(exhibit.info) for exhibit in gallery.exhibits()}
    run = finished(root, 0.9, 4_000)
    app = open_page("runs")
    assert app.query_params["run"] in (run, [run]), "one's own runs come first"
    assert "delete" in [button.key for button in app.button]


def test_a_run_of_the_gallery_is_labelled_and_cannot_be_touched(open_page: Open) -> None:
    app = open_page("runs", run=GETA)
    keys = {button.key for button in app.button}
    assert not keys & {"delete", "cancel", "pause", "resume"}
    exhibit = gallery.find(GETA)
    assert any(caption.value.startswith(f"{exhibit.line} ") for caption in app.caption)
    record = exhibit.record()
    origin = next(frame.value for frame in app.dataframe if "what" in frame.value)
    facts = dict(zip(origin[""], origin["what"], strict=True))
    assert (facts["commit"], facts["seed"]) == (record["commit"], str(record["seed"]))
    assert "python -m compression run --config" in app.code[0].value


def test_a_sweep_of_the_gallery_opens_its_runs(open_page: Open) -> None:
    app = open_page("runs", run=SWEEP)
    assert errors(app) == []
    parts = gallery.read().parts(SWEEP)
    listed = next(frame.value for frame in app.dataframe if "seed" in frame.value.columns)
    assert list(listed["bytes"]) == [round(part.final["bytes"]) for part in parts if part.final]
    app.query_params["run"] = parts[2].info.id  # as a click on its row does
    app.run()
    assert not app.exception
    assert app.session_state["at_run"] == parts[2].info.id
    app.button(key="sweep").click().run()
    assert app.session_state["at_run"] == SWEEP


def test_the_same_run_is_set_up_on_the_budget_page(open_page: Open) -> None:
    app = open_page("runs", run="gallery.resnet8-mnist5k.sequential")
    app.button(key="repeat").click().run()
    assert not app.exception
    assert errors(app) == []
    assert app.title[0].value == nav.PAGES["budget"].question
    assert app.slider(key="ask sparsity").value == 0.5
    assert app.button(key="start").label == f"Start {methods.get('sequential').info.label} run"


def test_compare_shows_the_gallery_where_it_is_wanted(open_page: Open, root: Path) -> None:
    app = open_page("compare")
    assert app.toggle(key="gallery_shown").value, "nothing else is there"
    single = [e for e in gallery.read().collections[0].exhibits if not e.info.runs]
    assert len(app.selectbox(key="pick_run").options) == len(single)
    run = finished(root, 0.9, 1_000)
    app = open_page("compare")
    assert app.toggle(key="gallery_shown").value, "beside the first runs"
    app.toggle(key="gallery_shown").set_value(False).run()
    assert len(app.selectbox(key="pick_run").options) == 1
    app.toggle(key="gallery_shown").set_value(True).run()
    assert not app.exception
    assert len(app.selectbox(key="pick_run").options) == len(single) + 1
    app = open_page("compare", run=run, other=OTHER)
    assert app.toggle(key="gallery_shown").value, "what the address names is shown"
    side = next(table.value for table in app.table if "difference" in table.value.columns)
    theirs = methods.get(gallery.find(OTHER).info.method).info.label
    assert side[side[""] == "method"].iloc[0, 1:3].tolist() == [methods.get("geta").info.label, theirs]
    app.toggle(key="gallery_shown").set_value(False).run()
    assert app.session_state["at_other"] == ""
    assert errors(app) == []


def test_the_gallery_steps_aside_where_there_is_a_front_of_ones_own(open_page: Open, root: Path) -> None:
    for seed in range(3):
        assert open_page("compare").toggle(key="gallery_shown").value
        finished(root, 0.9, 1_000, Budget(seed=seed))
    assert not open_page("compare").toggle(key="gallery_shown").value
    start = open_page("start")
    assert errors(start) == []
    assert not gallery_beside(start)


def test_the_first_own_run_on_start_has_the_gallery_beside_it(open_page: Open, root: Path) -> None:
    finished(root, 0.9, 1_000)
    assert gallery_beside(open_page("start"))


def gallery_beside(start: AppTest) -> bool:
    """Whether the chart of one's own runs says that it holds the gallery's, too."""
    (heading,) = (str(each.value) for each in start.markdown if str(each.value).startswith("**Your runs"))
    return "gallery" in heading


def test_the_demo_is_the_run_of_the_gallery_that_loses_less_than_a_point(open_page: Open) -> None:
    shipped = gallery.find(GENTLE)
    assert shipped.baseline is not None and shipped.final is not None
    assert shipped.baseline["score"] - shipped.final["score"] < 0.01
    requested, budget = Budget.from_dict(shipped.info.budget), names.request(shipped.info.budget)
    assert (requested.model, requested.data, requested.epochs) == ("resnet8", "mnist5k", 6)
    assert f"{budget}, 6 epochs" in page_text(open_page("start"))


def test_another_method_takes_the_budget_of_a_gallery_run(open_page: Open) -> None:
    """The run began from a weights file that is not here; its address names neither model nor data."""
    app = open_page("compare", run=CIFAR)
    app.button(key="again sequential").click().run()
    assert not app.exception
    assert errors(app) == []
    assert app.title[0].value == nav.PAGES["budget"].question
    assert (app.session_state["at_model"], app.session_state["at_data"]) == ("resnet20", "cifar10")
    assert app.slider(key="ask weight_bits").value == 4


def test_runs_on_other_images_are_not_compared(
    open_page: Open, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFAR-10 in its own files is not the gallery's CIFAR-10 (JPEG-75)."""
    monkeypatch.delenv("COMPRESSION_DATA", raising=False)
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path / "cache"))
    alone = {caption.value for caption in open_page("compare", run=CIFAR).caption}
    own = finished(root, 0.9, 1_000, Budget(model="resnet20", data="cifar10"))
    app = open_page("compare", run=own, gallery_shown="false")
    before = {caption.value for caption in app.caption}
    app.toggle(key="gallery_shown").set_value(True).run()
    assert list(app.selectbox(key="pick_run").options) == [f"GETA, {names.request(Budget(method='geta').to_dict())}"]
    added = {caption.value for caption in app.caption} - before
    assert any("CIFAR-10 (JPEG-75)" in line for line in added), "why none of the gallery is beside it"
    app = open_page("compare", run=CIFAR)
    assert own not in list(app.selectbox(key="pick_run").options)
    added = {caption.value for caption in app.caption} - alone
    assert any("CIFAR-10 (JPEG-75)" in line for line in added), "why one's own are not"


def test_figures_of_a_run_without_its_model_are_all_there(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESSION_DATA", raising=False)
    app = open_page("runs", run=CIFAR)
    assert errors(app) == []
    assert len(app.get("plotly_chart")) == 6
    assert "CIFAR-10 (JPEG-75)" in page_text(app)
    app = open_page("compare", run=CIFAR)
    assert errors(app) == []
    assert len(app.get("plotly_chart")) == 4, "front, layers, ledger, confusion"
    assert app.button_group(key="layer_measure_recorded").value == "channels", "sizes in its file are not known"


@pytest.mark.parametrize(
    ("name", "expected"), [("explain", "nothing to ask"), ("export", "nothing to put in a bundle")]
)
def test_what_needs_the_model_says_what_is_missing_and_what_to_do(open_page: Open, name: str, expected: str) -> None:
    app = open_page(name, run=CIFAR)
    assert errors(app) == []
    assert len(app.info) == 1
    assert expected in app.info[0].value
    assert "\n" not in app.info[0].value
    assert "make" not in [button.key for button in app.button]
    app.button(key="repeat").click().run()
    assert app.title[0].value == nav.PAGES["budget"].question


def test_a_bundle_is_made_beside_the_gallery(open_page: Open, root: Path) -> None:
    before = fingerprint(gallery.ROOT)
    app = open_page("export", run=OTHER)
    assert errors(app) == []
    app.button(key="make").click().run()
    assert not app.exception
    copy = gallery_copy(root, OTHER)
    ended(lambda: export_job.status(copy), export_job.DONE)
    with zipfile.ZipFile(export_job.bundle_path(copy)) as archive:
        assert archive.read("weights.packed") == (gallery.find(OTHER).path / "bundle" / "weights.packed").read_bytes()
    app = open_page("export", run=OTHER)
    assert errors(app) == []
    assert len(app.get("download_button")) >= 2
    push = shlex.split(app.code[-1].value)
    assert push[-4:] == ["push", f"{OTHER}.zip", "--to", "OWNER/NAME"] and push[-4] in cli.COMMANDS
    assert fingerprint(gallery.ROOT) == before


def gallery_copy(root: Path, run: str) -> export_job.RunFolder:
    return export_job.RunFolder(root / ".gallery" / run)


@pytest.mark.parametrize(
    ("name", "run"), [("runs", "gallery.nosuch.run"), ("runs", "gallery.../etc"), ("compare", "gallery.")]
)
def test_an_unknown_run_of_the_gallery_gets_one_line(open_page: Open, name: str, run: str) -> None:
    lines = errors(open_page(name, run=run))
    assert len(lines) == 1
    assert "No run" in lines[0]
    assert "\n" not in lines[0]


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery with one good run and one whose files are no longer JSON."""
    for name in ("geta", "ptq"):
        shutil.copytree(gallery.ROOT / "resnet8-mnist5k" / name, tmp_path / "gallery" / "resnet8-mnist5k" / name)
    (tmp_path / "gallery" / "resnet8-mnist5k" / "ptq" / "result.json").write_text("{")
    (tmp_path / "gallery" / "resnet8-mnist5k" / "geta" / "record.json").write_text("[]")
    monkeypatch.setattr("app.gallery.gallery.ROOT", tmp_path / "gallery")
    return tmp_path / "gallery"


@pytest.mark.parametrize("name", ["start", "compare", "explain", "export"])
def test_a_damaged_gallery_loses_only_what_is_damaged(open_page: Open, damaged: Path, name: str) -> None:
    assert errors(open_page(name)) == []


def test_a_damaged_gallery_is_reported_on_runs(open_page: Open, damaged: Path) -> None:
    app = open_page("runs", run=GETA)
    (problem,) = gallery.read().problems
    assert "ptq" in problem
    assert problem in [element.value for element in app.caption]
    assert len(errors(app)) == 1, "where it comes from cannot be read, the rest can"
    assert [metric.value for metric in app.metric]


def test_a_damaged_packed_file_is_reported_in_one_line(open_page: Open, damaged: Path) -> None:
    path = damaged / "resnet8-mnist5k" / "geta" / "bundle" / "weights.packed"
    path.write_bytes(path.read_bytes()[:-1])
    for name in ("compare", "explain"):
        assert len(errors(open_page(name, run=GETA))) == 1


@pytest.mark.parametrize("name", ["start", "runs", "compare", "explain", "export"])
def test_no_gallery_at_all_leaves_every_page_standing(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("app.gallery.gallery.ROOT", tmp_path / "none")
    app = open_page(name)
    assert errors(app) == []
    assert app.title[0].value == nav.PAGES[name].question


def test_the_tour_goes_from_start_to_the_end_and_back(open_page: Open) -> None:
    app = open_page("start")
    app.button(key="tour_begin").click().run()
    for number, stop in enumerate(tour.STOPS, start=1):
        assert not app.exception
        assert errors(app) == []
        assert app.title[0].value == nav.PAGES[stop.page].question
        assert f"**Tour, {number} of {len(tour.STOPS)}: {nav.PAGES[stop.page].title}.**" in page_text(app)
        assert app.session_state["at_run"] == GENTLE
        assert app.query_params["tour"] in (str(number), [str(number)])
        if number < len(tour.STOPS):
            app.button(key="tour_next").click().run()
    assert "tour_next" not in [button.key for button in app.button]
    app.button(key="tour_back").click().run()
    assert app.title[0].value == nav.PAGES[tour.STOPS[-2].page].question
    app.button(key="tour_end").click().run()
    assert app.session_state["at_tour"] == ""
    assert "Tour," not in page_text(app)


def test_the_tour_blocks_nothing_and_finds_back(open_page: Open) -> None:
    app = open_page("learn", tour="4")
    title = nav.PAGES[tour.STOPS[3].page].title
    assert any(line.endswith(f"stop 4 of {len(tour.STOPS)}, {title}.") for line in page_text(app).split("\n"))
    app.button(key="tour_return").click().run()
    assert app.title[0].value == nav.PAGES["runs"].question
    for wrong in ("0", str(len(tour.STOPS) + 1), "x", "²", "-1"):
        assert "tour" not in page_text(open_page("learn", tour=wrong)).lower()
