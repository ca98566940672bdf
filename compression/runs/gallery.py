"""The gallery: finished runs that came with the project, beside those of the user, and never changed.

::

    <root>/<collection>/about.json             title, a line on each run, which to show first (may be missing)
                        <name>/spec.json       a run folder as its worker left it, events thinned
                               events.jsonl
                               result.json
                               record.json     where it comes from: command, commit, seed, data, processor
                               bundle/         the compressed model; some collections keep figures only

A run of the gallery is named ``gallery.<collection>.<name>`` everywhere. What has to be written about one (an
explanation, a bundle) goes to a copy of its folder below the user's runs: :func:`workplace`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression.budget import Budget
from compression.errors import CompressionError
from compression.reading import Text, cut, read_bytes, read_object, typed
from compression.runs.files import unwritable
from compression.runs.folder import DONE, RunFolder
from compression.runs.index import RunInfo
from compression.runs.paths import check_contents, remove
from compression.runs.resultfile import written

PREFIX = "gallery."
COPIES = ".gallery"  # below the user's runs; the store looks into no folder whose name begins with a point
_COPIED = ("spec.json", "events.jsonl", "result.json", "record.json", "bundle", "pictures", "explain")


@dataclass(frozen=True)
class Exhibit:
    """One run of the gallery: its row as in the list of runs, and what only the gallery knows of it.

    ``data`` is the data set's full title, ``line`` says in a sentence what to see; ``baseline`` and ``final`` are
    points (``None`` for a sweep); ``whole``: the compressed model is there, not only figures.
    """

    info: RunInfo
    path: Path
    collection: str
    name: str
    data: str
    line: str
    baseline: Mapping[str, Any] | None
    final: Mapping[str, Any] | None
    whole: bool

    def folder(self) -> RunFolder:
        """The folder under the gallery's name for the run; to be read only."""
        folder = RunFolder(self.path)
        folder.id = self.info.id
        return folder

    def record(self) -> dict[str, Any]:
        """Where the run comes from; empty for a sweep, whose runs hold it.

        Raises:
            CompressionError: the file is damaged.
        """
        path = self.path / "record.json"
        return read_object(path, "record") if path.is_file() else {}


@dataclass(frozen=True)
class Collection:
    """Runs of one model on one data set: ``title`` for people; ``shown`` (names) are those worth a card, ``tour``: the
    one that the tour follows.
    """

    name: str
    title: str
    shown: tuple[str, ...]
    exhibits: tuple[Exhibit, ...]
    tour: str = ""


@dataclass(frozen=True)
class Gallery:
    """All collections; ``problems`` are the folders that cannot be read, each with the reason, and are left out."""

    collections: tuple[Collection, ...]
    problems: tuple[str, ...] = ()

    @property
    def exhibits(self) -> tuple[Exhibit, ...]:
        """Every run and sweep, those of a sweep after it."""
        return tuple(exhibit for collection in self.collections for exhibit in collection.exhibits)

    def find(self, run: str) -> Exhibit:
        """The exhibit of this name.

        Raises:
            CompressionError: there is none.
        """
        match = next((exhibit for exhibit in self.exhibits if exhibit.info.id == run), None)
        if match is None:
            raise CompressionError(f"no run {run!r} in the gallery; the page Start lists those there are")
        return match

    def parts(self, sweep: str) -> list[Exhibit]:
        """The runs of a sweep, from the least compressed to the most; empty for an ordinary run."""
        parts = [exhibit for exhibit in self.exhibits if exhibit.info.sweep == sweep]
        return sorted(parts, key=lambda exhibit: -(exhibit.final or {}).get("bytes", 0))


def is_gallery(run: str) -> bool:
    """Is this the name of a run of the gallery, existing or not?"""
    return run.startswith(PREFIX)


def read(root: str | Path) -> Gallery:
    """Read all collections below ``root``; nothing is written, nothing cached. A missing folder is an empty gallery."""
    problems: list[str] = []
    paths = sorted(path for path in Path(root).glob("*") if path.is_dir() and not path.name.startswith((".", "_")))
    collections = [_collection(path, problems) for path in paths]
    whole_first = sorted((c for c in collections if c.exhibits), key=lambda c: -sum(e.whole for e in c.exhibits))
    return Gallery(tuple(whole_first), tuple(problems))


def _collection(path: Path, problems: list[str]) -> Collection:
    title: str = path.name
    tour: str = ""
    shown: tuple[str, ...] = ()
    lines: dict[str, str] = {}
    exhibits: list[Exhibit] = []
    try:
        if (path / "about.json").is_file():
            about = typed(_ABOUT, read_object(path / "about.json", "gallery"), f"about.json of gallery {path.name}")
            tour = about.get("tour", "")
            title, shown, lines = about["title"], tuple(about.get("shown", ())), about.get("lines", {})
    except CompressionError as error:
        problems.append(str(error))
    for folder in sorted(spec.parent for spec in path.glob("*/spec.json")):
        try:
            exhibits.append(_exhibit(path.name, folder, lines.get(folder.name, "")))
        except CompressionError as error:
            problems.append(f"gallery {path.name}/{folder.name} is left out: {error}")
    exhibits = [_with_data(exhibit, exhibits) for exhibit in exhibits]
    first = {name: place for place, name in enumerate(shown)}
    exhibits.sort(key=lambda exhibit: (first.get(exhibit.name, len(first)), exhibit.name))
    return Collection(path.name, title, shown, tuple(exhibits), tour)


def _with_data(exhibit: Exhibit, others: Sequence[Exhibit]) -> Exhibit:
    """A sweep under the title of its runs' data, which its own result does not hold."""
    part = next((other for other in others if other.info.sweep == exhibit.info.id), exhibit)
    return dataclasses.replace(exhibit, data=part.data)


class _About(TypedDict):
    title: Text
    tour: NotRequired[Text]
    shown: NotRequired[list[Text]]
    lines: NotRequired[dict[str, Text]]


_ABOUT = TypeAdapter(_About)


def _exhibit(collection: str, path: Path, line: str) -> Exhibit:
    check_contents(path)
    spec, result = RunFolder(path).spec(), written(path / "result.json")
    budget, children = Budget.from_dict(spec["budget"]).to_dict(), spec.get("children", ())
    points = {} if children else {name: result[name] for name in ("baseline", "final")}
    if result["status"] != DONE or None in points.values():
        raise CompressionError(f"the run is {cut(result['status'])}, not done with a baseline and a final point")
    prefix = f"{PREFIX}{collection}."
    info = RunInfo(
        id=prefix + path.name, state=DONE, sweep=prefix + spec["sweep"] if spec.get("sweep") else None,
        runs=len(children), priority=0, method=budget["method"], model=budget["model"], data=budget["data"],
        created=float(spec["created"]), started=None, ended=None, step=None, total_steps=None, epoch=None, phase=None,
        error=None, budget=budget,
    )  # fmt: skip
    whole = (path / "bundle" / "weights.packed").is_file()
    data = str(result.get("data", budget["data"]))
    return Exhibit(
        info, path, collection, path.name, data, line, points.get("baseline"), points.get("final"), whole
    )  # fmt: skip


def copied(exhibit: Exhibit, runs: str | Path) -> RunFolder | None:
    """The :func:`workplace` of an exhibit where there is one already; nothing is written.

    Raises:
        CompressionError: something else than a copy is in its place.
    """
    target = Path(runs) / COPIES / exhibit.info.id
    if target.parent.is_symlink() or target.is_symlink():
        raise CompressionError(f"{target} is reached by a link, not a folder of the runs: remove it")
    if not _same(exhibit.path, target):
        return None
    check_contents(target)
    return RunFolder(target)


def workplace(exhibit: Exhibit, runs: str | Path) -> RunFolder:
    """A copy of the exhibit's folder below the user's runs, in which jobs may write; created when it is first needed.

    Created again when the gallery has another run under this name than the one that was copied.

    Raises:
        CompressionError: the runs folder cannot be written, or something else than a copy is in its place.
    """
    if (copy := copied(exhibit, runs)) is not None:
        return copy
    target = Path(runs) / COPIES / exhibit.info.id
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        remove(fresh)
        fresh.mkdir(parents=True)
        for path in (exhibit.path / name for name in _COPIED):  # in this order: the explanation follows the weights
            if path.is_dir():
                shutil.copytree(path, fresh / path.name, copy_function=shutil.copyfile)
            elif path.is_file():
                shutil.copyfile(path, fresh / path.name)
        remove(target)
        fresh.replace(target)
    except OSError as error:
        if not _same(exhibit.path, target):  # else another tab has made it meanwhile
            raise CompressionError(unwritable(runs, error)) from error
    return RunFolder(target)


def _same(path: Path, copy: Path) -> bool:
    """Is this still a copy of the run? Its result identifies it."""
    try:
        return read_bytes(path / "result.json", "result") == read_bytes(copy / "result.json", "result")
    except CompressionError:
        return False
