"""Reports: what stands in them against the runs' own files, what cannot be reported, and names that are no markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from written import AFTER, BEFORE, DENSE, ON_THE_WAY, begun, finished

from compression.budget import Budget
from compression.cli import main
from compression.pack.contents import contents
from compression.plots.titles import model_label
from compression.report import collect, document, report
from compression.report.page import NOTHING, embedded
from compression.report.pictures import MOST_BYTES, address
from compression.runs import labels
from compression.runs.folder import RunFolder

HOSTILE = "</script><img src=x onerror=hack()>"
WHOLE = "gallery.resnet8-mnist5k."
MOST = 3_000_000  # bytes of a report of five runs


class Elements(HTMLParser):
    """Every element of a document: its name, its attributes and, of scripts and styles, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.elements[-1][2].append(data)

    def all(self, name: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for tag, attributes, text in self.elements if tag == name]


def data_of(text: str) -> Any:
    """What the script of a document reads."""
    (block,) = [code for attributes, code in Elements(text).all("script") if attributes.get("id") == "data"]
    return json.loads(block)


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, list[str]]:
    """Two finished runs whose names, tags, classes and data set would be markup."""
    runs = [finished(tmp_path, 0.97, 5_000), finished(tmp_path, 0.9, 4_000)]
    for run in runs:
        folder = RunFolder.open(tmp_path, run)
        labels.write(folder, labels.labels(f"<!-- <script> {HOSTILE}", [HOSTILE]))
        result = json.loads(folder.result_path.read_text())
        result |= {"classes": [HOSTILE, "&lt;b&gt;\u2028"], "data": f'"><svg onload=hack()> {HOSTILE[1:8]}'}
        folder.result_path.write_text(json.dumps(result))
    return tmp_path, runs


def test_a_report_has_the_figures_of_the_runs_own_files() -> None:
    names = ["geta", "opq-01", "opq-02", "opq-03", "opq-04", "opq-05", "ptq", "magnitude"]
    value = report(collect([WHOLE + "geta", WHOLE + "opq", WHOLE + "ptq", WHOLE + "magnitude"], "nowhere"))
    (subject,) = value["subjects"]
    runs = {run["id"].removeprefix(WHOLE): run for run in subject["runs"]}
    assert sorted(runs) == sorted(names)
    root = Path("assets/gallery/resnet8-mnist5k")
    results = {name: json.loads((root / name / "result.json").read_text()) for name in names}
    chart = next(each for each in subject["fronts"] if each["field"] == "bytes")
    marks = {mark["id"].removeprefix(WHOLE): mark for mark in chart["marks"] if mark["id"]}
    for name, result in results.items():
        final = result["final"]
        assert (marks[name]["x"], marks[name]["y"]) == (final["bytes"], pytest.approx(100 * final["accuracy"]))
        others = [each["final"] for other, each in results.items() if other != name]  # who beats it, by brute force
        beaten = any(o["bytes"] <= final["bytes"] and o["accuracy"] >= final["accuracy"] for o in others)
        assert marks[name]["beaten"] == beaten
        parts = [row["value"] for row in runs[name]["ledger"]["rows"]]
        assert sum(parts) == (root / name / "bundle" / "weights.packed").stat().st_size
        stored = contents(root / name / "bundle" / "weights.packed")
        sizes = {row["label"]: row["value"] for row in runs[name]["layers"]["measures"][0]["rows"]}
        assert sizes == {layer: stored[f"{layer}.weight"].bytes for layer in sizes} and len(sizes) == 10
        origin = dict(runs[name]["provenance"])
        record = json.loads((root / name / "record.json").read_text())
        packed = hashlib.sha256((root / name / "bundle" / "weights.packed").read_bytes()).hexdigest()
        assert origin["commit"] == record["commit"] and origin["command"] == record["command"]
        assert origin["SHA-256 of the packed file"] == packed
        assert Budget.from_dict(json.loads(runs[name]["budget"]["file"])).method == result["method"]
    assert [[x, round(y, 3)] for x, y in chart["front"]] == sorted(
        [mark["x"], round(mark["y"], 3)] for mark in marks.values() if not mark["beaten"]
    )


def test_seeds_are_one_mark_at_their_mean_that_the_front_is_made_of(tmp_path: Path) -> None:
    """The luckiest of three seeds would be the front; their mean is not."""
    scores, sizes = (0.90, 0.99, 0.93), (4_000, 4_100, 4_500)
    runs = [
        finished(tmp_path, score, size, Budget(sparsity=0.5, seed=seed))
        for seed, (score, size) in enumerate(zip(scores, sizes, strict=True))
    ]
    other = finished(tmp_path, 0.95, 4_050, Budget(sparsity=0.3))
    again = finished(tmp_path, 0.80, 9_000, Budget(sparsity=0.5, seed=1))  # the same seed twice is no other seed
    value = report(collect([*runs, other, again], tmp_path))
    chart = next(each for each in value["subjects"][0]["fronts"] if each["field"] == "bytes")
    first, second, third, mean, alone, repeated = sorted(
        (mark for mark in chart["marks"] if mark["id"]),
        key=lambda mark: (mark["size"], [*runs, other, again].index(mark["id"])),
    )
    assert [(mark["id"], mark["x"], round(mark["y"], 6)) for mark in (first, second, third)] == [
        (run, size, 100 * score) for run, size, score in zip(runs, sizes, scores, strict=True)
    ]
    assert (mean["x"], round(mean["y"], 6)) == (sum(sizes) / 3, round(100 * sum(scores) / 3, 6))
    assert mean["id"] == runs[0] and mean["beaten"] and "mean of 3 seeds" in mean["text"]
    assert chart["seeds"] == 3 and [point[0] for point in chart["front"]] == [alone["x"]] == [4_050]
    assert (repeated["id"], repeated["x"], repeated["beaten"]) == (again, 9_000, True)
    assert len(value["subjects"][0]["runs"]) == 5


def test_cells_of_the_matrix_are_the_differences(tmp_path: Path) -> None:
    value = report(collect([finished(tmp_path)], tmp_path))
    cells = value["subjects"][0]["runs"][0]["classes"]["cells"]
    changes = np.array(AFTER) - np.array(BEFORE)
    assert [[cell["change"] for cell in row] for row in cells] == changes.tolist()
    worse = np.where(np.eye(2, dtype=bool), -changes, changes)
    assert [[cell["strength"] for cell in row] for row in cells] == (worse / np.abs(worse).max()).tolist()


def test_names_are_data_and_never_markup(hostile: tuple[Path, list[str]]) -> None:
    root, runs = hostile
    value = report(collect(runs, root))
    text = document(value)
    page = Elements(text)
    assert not page.all("img") and not page.all("svg")
    data, module = page.all("script")
    assert data[0] == {"type": "application/json", "id": "data"} and module[0] == {"type": "module"}
    assert not set("<>&") & set(data[1])
    assert json.loads(data[1]) == value
    assert value["subjects"][0]["runs"][0]["tags"] == [HOSTILE]


def test_the_policy_names_the_one_script_and_the_one_style(tmp_path: Path) -> None:
    page = Elements(document(report(collect([finished(tmp_path)], tmp_path))))
    (policy,) = [str(m["content"]) for m, _ in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for name, (element,) in (("script-src", page.all("script")[1:]), ("style-src", page.all("style"))):
        digest = base64.b64encode(hashlib.sha256(element[1].encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy and "http" not in policy
    assert not any(set(attributes) & {"src", "srcset", "style"} for _, attributes, _ in page.elements)
    assert not any(key.startswith("on") for _, attributes, _ in page.elements for key in attributes)


def test_json_of_anything_cannot_end_its_element() -> None:
    source = random.Random(0)
    for _ in range(300):
        value = ["".join(source.choices("</>!-&;'\"scriptSCRIPT\\u003\n\u2028", k=12)) for _ in range(8)]
        (script,) = Elements(f'<script type="application/json">{embedded(value)}</script>').all("script")
        assert json.loads(script[1]) == value


def test_runs_that_cannot_be_reported_are_named_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "runs"
    good = finished(root)
    going = begun(root, Budget(), DENSE, ON_THE_WAY).id
    failed = begun(root, Budget(), state="failed", error="training diverged").id
    damaged, torn = finished(root), finished(root)
    RunFolder.open(root, damaged).result_path.write_text('{"status": "done"}')
    (RunFolder.open(root, torn).bundle / "weights.packed").write_bytes(b"torn")
    out, unknown = tmp_path / "report.html", "gallery.none.such"
    named = [good, going, failed, damaged, torn, "nosuch", unknown]
    assert main(["report", *named, "--runs", str(root), "--out", str(out), "--json", str(tmp_path / "a.json")]) == 0
    text = out.read_text()
    value = data_of(text)
    reasons = {each["run"]: each["problem"] for each in value["missing"]}
    assert set(reasons) == {going, failed, damaged, "nosuch", unknown}
    assert "90.0 %" in reasons[going] and "training diverged" in reasons[failed]
    assert [run["id"] for run in value["subjects"][0]["runs"]] == [good, torn]
    assert value["subjects"][0]["runs"][1]["layers"]["problem"]
    assert str(tmp_path) not in text
    answer = json.loads((tmp_path / "a.json").read_text())
    assert (answer["bytes"], answer["runs"]) == (len(text.encode()) - 1, [good, torn])
    assert capsys.readouterr().err.count("note: ") == len(reasons)


@pytest.mark.parametrize(
    ("file", "place", "value", "reported"),
    [
        ("result.json", ("facts",), {"coded_bits": "many"}, True),
        ("result.json", ("final", "loss"), None, True),  # was not finite
        ("result.json", ("final", "score"), 7.0, True),
        ("result.json", ("final", "bytes"), 0, False),
        ("result.json", ("ledger",), None, True),
        ("result.json", ("precisions",), [{}], False),
        ("record.json", ("weights",), ["a list"], False),
        ("spec.json", ("versions",), "none", True),
        ("spec.json", ("budget", "method"), "none such", False),
    ],
)
def test_damaged_files_are_reported_or_named(
    tmp_path: Path, file: str, place: tuple[str, ...], value: Any, reported: bool
) -> None:
    run = finished(tmp_path)
    path = tmp_path / run / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    node = content
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    path.write_text(json.dumps(content))
    value = report(collect([run], tmp_path))
    assert (bool(value["subjects"]), bool(value["missing"])) == (reported, not reported)
    assert str(tmp_path) not in document(value)


def test_a_report_of_nothing_opens_too() -> None:
    value = report(collect(["nosuch"], "nowhere"))
    assert value["subjects"] == [] and NOTHING in document(value)


def test_nothing_named_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["report"]) == 2
    assert main(["report", "nosuch", "--out", str(tmp_path)]) == 2
    assert main(["report", "nosuch", "--out", "-", "--json", "-"]) == 2
    assert capsys.readouterr().err.count("error: ") == 3


def test_standard_output_is_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path)
    assert main(["report", run, "--runs", str(tmp_path), "--out", "-"]) == 0
    assert capsys.readouterr().out == document(report(collect([run], tmp_path))) + "\n"


def test_one_run_at_several_widths_is_a_line_of_its_models(tmp_path: Path) -> None:
    run, other = finished(tmp_path, 0.95, 9_000), finished(tmp_path, 0.9, 4_000, Budget(sparsity=0.3))
    path = RunFolder.open(tmp_path, run).result_path
    result = json.loads(path.read_text())
    places = [(3_000, 0.2), (5_000, 0.91), (9_000, 0.95)]  # the first is too far below to be drawn
    rows = [{**result["final"], "bytes": size, "score": score, "accuracy": score} for size, score in places]
    common = {"widths": {}, "ledger": result["ledger"], "file": "a", "sha256": "b"}
    result["precisions"] = [{"bits": bits, "point": row, **common} for bits, row in enumerate(rows, 2)]
    path.write_text(json.dumps(result))
    size, *others = report(collect([run, other], tmp_path))["subjects"][0]["fronts"]
    assert size["lines"][0]["points"] == [[5_000, pytest.approx(91)], [9_000, pytest.approx(95)]]
    assert [mark["x"] for mark in size["marks"] if mark["id"] == run] == [9_000, 5_000, 9_000]
    assert len(others) == 3 and not any(chart["lines"] for chart in others)


def test_a_report_runs_no_code_of_a_run(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    runs = tmp_path / "runs"
    run = finished(runs, budget=Budget(model=f"{code}:net", data="mnist5k"))
    text = document(report(collect([run], runs)))
    (about,) = data_of(text)["subjects"][0]["runs"]
    assert about["subject"].partition(" on ")[0] == model_label("net.py:net")
    assert all(row["before"] is None for row in about["layers"]["measures"][0]["rows"])
    assert not (tmp_path / "ran").exists() and str(tmp_path) not in text


def test_five_runs_with_pictures_are_small_and_the_same_each_time() -> None:
    names = [f"gallery.siren-chelsea.{name}" for name in ("ptq-w5", "opq-w4-s50", "opq-w5-s30", "geta-w6-s30")]
    value = report(collect([*names, "gallery.resnet20-cifar10jpeg.w4-s39"], "nowhere"))
    text = document(value)
    assert len(text.encode()) < MOST / 3
    assert len(value["pictures"]) == 5  # four answers and one original
    assert text == document(report(collect([*names, "gallery.resnet20-cifar10jpeg.w4-s39"], "nowhere")))


def test_large_pictures_are_made_smaller_and_damaged_ones_are_named(tmp_path: Path) -> None:
    small, large, damaged = (tmp_path / f"{name}.png" for name in ("small", "large", "damaged"))
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    Image.fromarray(noise[:40, :40]).save(small)
    Image.fromarray(noise).save(large)
    damaged.write_bytes(small.read_bytes()[:60])
    data, exact = address(small)
    assert exact and base64.b64decode(data.partition(",")[2]) == small.read_bytes()
    data, exact = address(large)
    content = base64.b64decode(data.partition(",")[2])
    assert not exact and len(content) <= MOST_BYTES
    assert Image.open(io.BytesIO(content)).size[0] * 3 == Image.open(io.BytesIO(content)).size[1] * 4
    assert 6 * MOST_BYTES * 4 / 3 < MOST
    runs = tmp_path / "runs"
    folder = RunFolder.open(runs, finished(runs))
    folder.pictures.mkdir()
    (folder.pictures / "original.png").write_bytes(small.read_bytes())
    (folder.pictures / "9.png").write_bytes(damaged.read_bytes())
    (about,) = report(collect([folder.id], runs))["subjects"][0]["runs"]
    assert ["picture" in each for each in about["pictures"]] == [True, False]
