"""Studies: tables about a dense model, computed by background jobs and looked up by what they depend on.

A study is a run folder like any other, with the same worker, events and states, but below ``<runs>/studies``; it ends
in a table instead of a smaller model.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression import devices
from compression.budget import Budget
from compression.errors import CompressionError
from compression.preprocess import merged
from compression.reading import expanded
from compression.runs.files import sha256
from compression.runs.folder import DONE, QUEUED, RUNNING, RunFolder
from compression.runs.preflight import absolute, check_subject
from compression.runs.store import Store
from compression.runs.submit import check_devices, new_spec

if TYPE_CHECKING:
    from compression.graph import Graph
    from compression.runs.prepare import TrainedModel

FOLDER = "studies"


def studies(root: str | Path) -> Store:
    """The store of these jobs beside the runs below ``root``.

    Raises:
        CompressionError: a link is in the place of their folder.
    """
    place = Path(root) / FOLDER
    if place.is_symlink():
        raise CompressionError(f"{place} is a link, not a folder of the runs: remove it, or put the folder there")
    return Store(place)


def key(kind: str, budget: Budget, **request: Any) -> str:
    """The digest of everything a study depends on: its kind, model, size, the weights' content, data, parameters.

    Of a user's model this includes the content of its file, of a folder of images the names of its files (by the times
    of the folders, since showing a page must not read all images; an image replaced in place is not noticed).

    Raises:
        CompressionError: there are no trained weights.
    """
    from compression.runs.prepare import find_weights

    trained = find_weights(budget)
    weights = sha256(trained.file) if trained.file else trained.digest
    model, input, classes, data, *more = subject_key(budget)
    content = [kind, model, input, classes, weights, data, request, *more]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def subject_key(budget: Budget) -> list[Any]:
    """Model, input, classes and data of a budget, and what else they depend on, as plain values."""
    from compression import zoo
    from compression.runs.prepare import shape

    input, classes = shape(budget)
    preprocess = merged(zoo.spec(budget.model).preprocess, budget.preprocess)
    content = [budget.model, input, classes, budget.data, *([preprocess] if preprocess else [])]
    if ".py:" in budget.model:
        content.append(sha256(expanded(budget.model.rpartition(":")[0])))
    if "/" in budget.data:
        content.append([(str(each), each.stat().st_mtime_ns) for each in _folders(expanded(budget.data))])
    return content


def _folders(root: Path) -> list[Path]:
    """A folder of images and the folders in it, those of divided data included."""
    parts = sorted(each for each in root.iterdir() if each.is_dir()) if root.is_dir() else []
    classes = [each for part in parts for each in part.iterdir() if each.is_dir()] if root / "train" in parts else []
    return [*([root] if root.is_dir() else []), *parts, *sorted(classes)]


def find(digest: str, root: str | Path) -> RunFolder | None:
    """The study with this :func:`key`: a finished one, else one that waits or runs, else the last.

    Raises:
        CompressionError: the folder cannot be read.
    """
    folders = matching(digest, root)
    for states in ((DONE,), (RUNNING, QUEUED)):
        for folder in folders:
            if folder.state in states:
                return folder
    return folders[0] if folders else None


def matching(digest: str, root: str | Path) -> list[RunFolder]:
    """All studies with this :func:`key`, the newest first.

    Raises:
        CompressionError: the folder cannot be read.
    """
    if not (Path(root) / FOLDER).is_dir():
        return []
    store = studies(root)
    folders = [RunFolder(store.root / info.id) for info in store.list()]
    return [folder for folder in folders if _stored_key(folder) == digest]


def _stored_key(folder: RunFolder) -> Any:
    """The key in a study's spec; None of one that was damaged after it was listed."""
    try:
        return folder.spec().get("key")
    except CompressionError:
        return None


def opened(folder: RunFolder, budget: Budget | None = None) -> tuple[TrainedModel, Graph]:
    """What a study is about, on the device that its spec names, and its trace; ``budget``: in place of the spec's.

    Raises:
        CompressionError: it is not what the spec names, or there is no such device.
    """
    from compression import zoo
    from compression.graph import trace
    from compression.runs.prepare import load

    budget, spec = budget or folder.budget(), folder.spec()
    subject = load(budget, spec.get("subject"))
    graph = trace(subject.model, zoo.example(budget.model, input=subject.input))
    return subject.on(devices.choose(spec.get("device", devices.AUTO))), graph


def begin(kind: str, budget: Budget, root: str | Path, device: str = devices.AUTO, **request: Any) -> str:
    """Start (or queue) the study for the model, weights and data of ``budget``; returns its id.

    Raises:
        CompressionError: the budget is refused, as for a run, or there is no such device.
    """
    check_devices(device)
    subject_only = {"model", "input", "classes", "weights", "data", "preprocess"}
    plain = absolute(Budget(**budget.model_dump(include=subject_only)))
    subject, _ = check_subject(plain)
    store, digest = studies(root), key(kind, plain, **request)
    spec = new_spec(plain, store, kind, device, job=kind, key=digest, asked=request, subject=subject.identity)
    return store.add(spec)[0].id
