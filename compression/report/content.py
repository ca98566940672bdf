"""What a report says, as plain data: for each model and data set its front, and everything about each of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression import __version__, methods
from compression.data import task as task_of
from compression.errors import CompressionError
from compression.pack.contents import contents
from compression.plots import comparison, confusion, layers, ledger, seeds, words
from compression.plots.axes import chance
from compression.plots.candidates import Candidate
from compression.plots.layered import LayeredLine
from compression.plots.titles import data_label, model_label
from compression.points import Point
from compression.reading import is_number
from compression.report import charts, pictures
from compression.report.layers import dense_layers, recorded_layers, stored_layers
from compression.report.provenance import budget, provenance
from compression.report.sources import Source, Trace, traced, without_folder
from compression.runs import labels, names
from compression.runs.files import finite
from compression.runs.folder import RunFolder
from compression.tasks import Metric

VERSION = 1
Data = dict[str, Any]


def report(runs: Sequence[Source], trace: Trace = traced) -> Data:
    """The whole report as JSON values; what is wrong with a run stands in it, and is not raised.

    ``subjects``: a model on a data set, in the order of its first run, with ``fronts`` (one a cost) and ``runs``;
    ``missing``: runs that are gone, unfinished or damaged, with the reason; ``pictures``: name → ``data:`` address.
    """
    missing = [{"run": each.id, "problem": each.problem} for each in runs if each.folder is None]
    pool: dict[str, str] = {}
    subjects: dict[str, Data] = {}
    candidates: dict[str, list[Candidate]] = {}
    lines: dict[str, list[LayeredLine]] = {}
    for each in runs:
        if each.folder is None or each.result is None:
            continue
        try:
            candidate, about = (
                _candidate(each.id, each.folder, each.result),
                _run(each, each.folder, each.result, trace, pool),
            )
        except CompressionError as error:
            missing.append({"run": each.id, "problem": without_folder(error.what, each.folder.path.parent)})
            continue
        title = about["subject"]
        subjects.setdefault(title, {"title": title, "metric": candidate.metric.title, "runs": []})["runs"].append(about)
        candidates.setdefault(title, []).append(candidate)
        lines.setdefault(title, []).extend(_precisions(candidate, each.result))
    for title, subject in subjects.items():
        subject["fronts"] = charts.fronts(candidates[title], lines[title])
    whole = {
        "version": VERSION, "program": f"Compression Explorer {__version__}", "title": "; ".join(subjects),
        "subjects": list(subjects.values()), "missing": missing,
        "pictures": {name: data for data, name in pool.items()},
    }  # fmt: skip
    plain: Data = finite(whole)
    return plain


def _candidate(run: str, folder: RunFolder, result: Mapping[str, Any]) -> Candidate:
    requested = folder.budget()
    request = methods.get(requested.method).request(requested)
    name = _name(folder, run)
    label = f"{request} ({name})" if name else request
    ends, same = (result["baseline"], result["final"]), seeds.identity(requested.to_dict())
    return Candidate(run, label, requested.method, *ends, metric=Metric.from_result(result), **same)


def _precisions(candidate: Candidate, result: Mapping[str, Any]) -> list[LayeredLine]:
    """Of a run whose weights serve several bit-widths, the line of what they are."""
    points = [Point.from_dict(row["point"]) for row in result.get("precisions", ())]
    places = tuple((int(point.bytes), point.score) for point in points)
    if not places:
        return []
    return [LayeredLine(candidate.run, candidate.method, candidate.title, places, candidate.metric, whole=False)]


def _name(folder: RunFolder, run: str) -> str:
    """What somebody called the run; of the gallery's its name there."""
    return labels.read(folder).name or (folder.path.name if folder.path.name != run else "")


def _run(source: Source, folder: RunFolder, result: Mapping[str, Any], trace: Trace, pool: dict[str, str]) -> Data:
    """Everything about one run."""
    if any(point[field] <= 0 for point in (result["baseline"], result["final"]) for field in ("bytes", "macs")):
        raise CompressionError(f"the figures of run {source.id} cannot be: a model without bytes or without work")
    requested = names.shared(folder.budget())
    method = methods.get(requested.method)
    label, metric, name = labels.read(folder), Metric.from_result(result), _name(folder, source.id)
    coded = (result.get("facts") or {}).get("coded_bits")
    stored = str(result.get("data") or requested.data)
    data = stored if "/" not in stored and "\\" not in stored else requested.data
    return {
        "id": source.id,
        "subject": f"{model_label(requested.model)} on {data_label(data)}",
        "name": name,
        "tags": list(label.tags),
        "request": method.request(requested),
        "method": charts.look(requested.method),
        "about": method.info.sentence.replace("**", ""),
        "paper": method.info.paper,
        "caveats": method.caveats(result),
        "row": _row(result, metric),
        "figures": _figures(result, metric),
        "comparison": charts.table(comparison.comparison(
            result["baseline"], result["final"], metric, coded if is_number(coded) else None
        )),
        "layers": _layers(source, folder, result, trace),
        "ledger": charts.ledger_bars(ledger.ledger_info(result.get("ledger") or {}, requested.method)),
        "classes": _classes(result),
        "pictures": _pictures(folder, result, metric, pool),
        "budget": budget(folder),
        "provenance": provenance(source.id, folder, result),
    }  # fmt: skip


def _row(result: Mapping[str, Any], metric: Metric) -> list[str]:
    """The run in the list of all: size, how many times smaller, score, its change, MACs, BOPs."""
    dense, final = result["baseline"], result["final"]
    return [
        words.size(final["bytes"]), words.ratio(dense["bytes"] / final["bytes"]), metric.show(final["score"]),
        words.signed(metric.shown(final["score"]) - metric.shown(dense["score"]), lambda v: f"{v:.{metric.decimals}f}"),
        words.count(final["macs"]), words.share(final["rel_bops"], 2),
    ]  # fmt: skip


def _figures(result: Mapping[str, Any], metric: Metric) -> list[Data]:
    """Size, score, MACs and BOPs, each with what it is compared to."""
    dense, final = result["baseline"], result["final"]
    tables = result.get("confusion") or {}
    images = sum(map(sum, tables["final"])) if tables.get("final") else 0
    margin = f"; ±{100 * chance(final['score'], images):.1f} points by chance" if images else ""
    cells = [
        ("Packed size", words.size(final["bytes"]),
         f"{words.ratio(dense['bytes'] / final['bytes'])} smaller than {words.size(dense['bytes'])}"),
        (f"Test {metric.label}", metric.show(final["score"]),
         comparison.change(metric, dense["score"], final["score"]) + margin),
        ("MACs", words.count(final["macs"]),
         f"{words.share(final['macs'] / dense['macs'], 0)} of {words.count(dense['macs'])}"),
        ("BOPs", words.share(final["rel_bops"], 2), "of the dense fp32 model"),
    ]  # fmt: skip
    return [{"label": label, "value": value, "note": note} for label, value, note in cells]


def _layers(source: Source, folder: RunFolder, result: Mapping[str, Any], trace: Trace) -> Data:
    """Layers from the packed file; without one from what was recorded; what is wrong with it as ``problem``."""
    requested = folder.budget()
    packed = folder.bundle / "weights.packed"
    whole = packed.is_file() or not source.shipped
    try:
        graph = trace(requested)
        if whole:
            changes = stored_layers(contents(packed), dense_layers(graph) if graph else None, result)
        else:
            changes = recorded_layers(graph, result) if graph else ()
    except CompressionError as error:
        return {"problem": without_folder(error.what, folder.path.parent)}
    if not changes:
        return {"problem": "Neither the compressed model nor the dense network is at hand: layers are not known."}
    return charts.layer_bars(layers.LayersInfo(changes, requested.method, whole))


def _classes(result: Mapping[str, Any]) -> Data | None:
    """Which classes got worse, of a task that counts them."""
    tables = result.get("confusion") or {}
    if not tables.get("baseline") or not tables.get("final"):
        return None
    return charts.classes(confusion.confusion_info(tables["baseline"], tables["final"], result.get("classes") or ()))


def _pictures(folder: RunFolder, result: Mapping[str, Any], metric: Metric, pool: dict[str, str]) -> list[Data]:
    """The truth and what the compressed network answers, of a task that has pictures."""
    end, truth = pictures.last(folder), folder.pictures / pictures.ORIGINAL
    if end is None or not truth.is_file():
        return []
    final = result["final"]
    shown = [
        (truth, pictures.TRUTHS.get(task_of(folder.budget().data), "The truth")),
        (end, f"This run: {metric.show(final['score'])}, {words.size(final['bytes'])}"),
    ]
    listed = []
    for path, caption in shown:
        try:
            data, exact = pictures.address(path)
        except CompressionError as error:
            listed.append({"caption": error.what})
            continue
        name = pool.setdefault(data, f"picture {len(pool)}")
        listed.append({"picture": name, "caption": caption if exact else f"{caption} (shown smaller or compressed)"})
    return listed
