"""The library as the pages use it: names, graphs and tables, computed once and shared. torch comes with the first call.

What is cached is never changed: graphs are frozen, tables are copied, models are built afresh for whoever measures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import live, names, options
from app.model import tracing, weightfiles
from app.model.networks import Network
from compression import data as datasets
from compression import owncode, zoo
from compression.budget import Budget
from compression.errors import CompressionError

if TYPE_CHECKING:
    from compression.tasks import Evaluation, Metric, Task

NO_DATA = "none"
TORCHVISION = "torchvision:"
ELSEWHERE = (TORCHVISION, "timm:", "hf:")  # names of architectures of other packages, from which nothing is downloaded
MEASURED_IMAGES = 1000


@dataclass(frozen=True)
class ChosenModel:
    """A model at a size: what graph, budget and run are about. ``data`` is ``none`` at the model's own size.

    ``weights`` is the token of uploaded ones (see :mod:`app.model.weightfiles`), empty for those trained here.
    """

    model: str
    data: str
    input: tuple[int, ...]
    classes: int
    weights: str = ""

    @property
    def has_data(self) -> bool:
        """Is there a data set to measure and train on?"""
        return self.data != NO_DATA

    @property
    def kind(self) -> datasets.Kind:
        """What the examples are: those of the data, else what the model takes."""
        if self.has_data:
            return datasets.kind(self.data)
        return zoo.spec(self.model).kind

    def place(self, budget: Budget) -> Budget:
        """The budget for this model and data; sizes are named only where they are not the model's own."""
        own, given = zoo.spec(self.model), weightfiles.path(self.weights)
        return budget.replace(
            weights=str(given) if given else None,
            model=self.model,
            data=self.data,
            input=None if self.input == tuple(own.input) else self.input,
            classes=None if self.classes == own.classes else self.classes,
        )


def model_labels() -> dict[str, str]:
    """The models one can pick, by name: the operator's, the zoo, torchvision's, and of other packages that are here."""
    own = {name: names.model_label(name) for name in options.read().models}
    alike = [name for name, label in own.items() if list(own.values()).count(label) > 1]
    own |= {name: f"{own[name]} ({Path(name).parent})" for name in alike}
    listed = [*zoo.names(), *(TORCHVISION + name for name in _torchvision()), *_installed()]
    return own | {name: names.model_label(name) for name in listed}


@st.cache_resource(max_entries=1, show_spinner=False)
def _torchvision() -> tuple[str, ...]:
    from torchvision import models

    from compression.zoo.imported import DETECTORS

    return (*models.list_models(module=models), *models.list_models(module=models.segmentation), *DETECTORS)


@st.cache_resource(max_entries=1, show_spinner=False)
def _installed() -> tuple[str, ...]:
    from compression.zoo import extra

    return tuple(extra.titles())


def data_labels() -> dict[str, str]:
    """The data sets one can pick, by name or folder, and none at all."""
    named = {info.name: info.title + ("" if info.local else f" ({info.source})") for info in datasets.infos()}
    given = options.read()
    own = {name: f"{names.model_label(name)} (task)" for name in given.tasks}
    folders = {path: f"{names.data_label(path)} (folder)" for path in options.data_folders(given.data_root)}
    return named | own | folders | {NO_DATA: "no data, the model's own input size"}


def allow(model: str, data: str) -> None:
    """Refuse what is not offered by name here: an address or an uploaded budget never names a file of this machine.

    Raises:
        CompressionError: saying what is not offered.
    """
    given = options.read()
    elsewhere = model.startswith(ELSEWHERE) and not set("/\\") & set(model)
    if not (elsewhere or model in zoo.names() or model in given.models):
        raise CompressionError(f"model {model!r} is not offered here: choose one on the Model page")
    if data not in (*datasets.names(), *options.offered(given), NO_DATA):
        raise CompressionError(f"data set {data!r} is not offered here: choose one on the Model page")


def subject(model: str, data: str, weights: str = "") -> ChosenModel:
    """The model at the size of the data: images and classes of the data decide where they are known.

    Without data, a file that was recognised says the size itself. Uploaded ``weights`` that are not here or do not fit
    are omitted.

    Raises:
        CompressionError: a model or data set not offered here.
    """
    allow(model, data)
    subject = _subject(model, data)
    if weights and not subject.has_data and (size := weightfiles.size(weights, model)) is not None:
        subject = dataclasses.replace(subject, input=size[0], classes=size[1])
    given = bool(weights) and weightfiles.fits(weights, subject.model, subject.input, subject.classes)
    return dataclasses.replace(subject, weights=weights) if given else _subject(model, data)


@st.cache_data(max_entries=64, show_spinner="Reading the model…")
def _subject(model: str, data: str) -> ChosenModel:
    own = zoo.spec(model)
    if owncode.is_own(data):
        return ChosenModel(model, data, tuple(own.input), own.classes)
    title, data_set = names.model_label(model), names.data_label(data)
    kind, task = (own.kind, own.task) if data == NO_DATA else (datasets.kind(data), datasets.task(data))
    if kind is not own.kind:
        raise CompressionError(f"{data_set} holds {kind.many}, and {title} is for {own.kind.many}: choose other data")
    if task != own.task:
        raise CompressionError(f"{data_set} is for {task}, and {title} for {own.task}: choose other data")
    if data in datasets.names():
        info = datasets.info(data)
        return ChosenModel(model, data, tuple(info.input), info.classes)
    if data == NO_DATA:
        return ChosenModel(model, data, tuple(own.input), own.classes)
    return ChosenModel(model, data, tuple(own.input), datasets.count_classes(Path(data)))


def fitting_data(model: str, data: str) -> str:
    """The data set for a newly picked model: the present one if it fits, else one for the model, else none.

    Of the operator's tasks and folders one is taken where it is the only one that fits.
    """
    if owncode.is_own(data):
        return data
    own = zoo.spec(model)
    if data in own.data or (data not in datasets.names() and _fits(own, data)):
        return data
    if own.data:
        return own.data[0]
    fitting = [offered for offered in options.offered(options.read()) if _fits(own, offered)]
    return fitting[0] if len(fitting) == 1 else NO_DATA


def _fits(own: zoo.ModelSpec, data: str) -> bool:
    """Whether a task or a folder of the operator's may suit a model: a task of one's own may suit any."""
    if data == NO_DATA or owncode.is_own(data):
        return data != NO_DATA
    return own.kind is datasets.IMAGE and own.task == datasets.task(data)


def of_budget(budget: Budget) -> ChosenModel:
    """The model of a run, at the size that the run has it."""
    from compression.runs.prepare import shape

    return ChosenModel(budget.model, budget.data, *shape(budget))


@st.cache_resource(max_entries=16, show_spinner="Tracing the network…")
def traced(subject: ChosenModel) -> Network:
    """The graph of a model; weights make no difference to it, so that those of large ones are not made.

    Raises:
        CompressionError: the model cannot be built at this size or does not run.
    """
    quiet()
    return Network(tracing.graph(subject))


def weights_file(subject: ChosenModel) -> Path | None:
    """The trained weights that a run would start from."""
    from compression.zoo import weights

    if subject.weights:
        return weightfiles.path(subject.weights)
    stored = weights.find(subject.model, subject.data, subject.input, subject.classes)
    own = stored is None and subject.model in options.read().models
    return weightfiles.returned(subject.model, subject.input, subject.classes) if own else stored


def origin(subject: ChosenModel, path: Path | None) -> str:
    """Where the weights that a run would start from come from, in words; nothing where there are none."""
    from compression.zoo import weights

    if path is None:
        return ""
    if subject.weights:
        return "the weights uploaded here"
    if path.name.startswith(weightfiles.RETURNED):
        return f"the weights that {zoo.spec(subject.model).title}() returns"
    return "the weights shipped with the app" if path.parent == weights.SHIPPED else "the weights made by `train` here"


def is_chance(path: Path) -> bool:
    """Did ``train`` find these weights no better than always answering the largest class?"""
    return _is_chance(str(path), path.stat().st_mtime)


@st.cache_data(max_entries=64, show_spinner=False)
def _is_chance(path: str, changed: float) -> bool:
    from compression.zoo import weights

    return weights.read_provenance(path).get("is_chance") is True


def train_line(subject: ChosenModel) -> str:
    """The command that trains the dense model."""
    from compression.runs.prepare import train_line as line

    return line(subject.place(Budget()))


def load_task(subject: ChosenModel) -> Task:
    """The task of a subject, its data preprocessed as the model's own function says.

    Raises:
        CompressionError: the data cannot be had or do not fit.
    """
    from compression.runs.prepare import load_task as load

    return load(subject.place(Budget()))


def measured(subject: ChosenModel, path: Path, split: str = "test") -> tuple[Evaluation, Metric, int]:
    """How good the dense weights are on up to 1,000 test images, in which metric, and how many they were.

    On another ``split`` all images count, as they do where a run is measured on it.

    Raises:
        CompressionError: data or weights cannot be had or do not fit.
    """
    return _measured(subject, str(path), path.stat().st_mtime, split)


@st.cache_data(max_entries=16, show_spinner="Measuring…")
def _measured(subject: ChosenModel, path: str, changed: float, split: str) -> tuple[Evaluation, Metric, int]:
    from compression.training.dense import evaluate

    quiet()
    task = load_task(subject)
    with live.memory().work(subject.model, tracing.need(subject.model, subject.input, subject.classes)):
        limit = MEASURED_IMAGES if split == "test" else None
        evaluation = evaluate(loaded(subject, path), task, split, limit=limit)
    return evaluation, task.metric, task.count(split, limit)


def loaded(subject: ChosenModel, path: str | None) -> Any:
    """A fresh model with these weights, or with seeded initial ones.

    Raises:
        CompressionError: weights that do not fit. What the model takes of :mod:`app.live` is the caller's to set aside.
    """
    from compression.zoo import weights

    model = zoo.build(subject.model, subject.input, subject.classes)
    if path is not None:
        weights.load(model, Path(path))
    return model.eval()


def quiet() -> None:
    """Leave cores to the workers: the app itself computes on one thread."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
