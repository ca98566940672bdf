"""Both models of a run and their explanations as the page uses them: restored and computed once, and shared.

Light methods are computed here, on a few images and one thread; what takes long is read from the files of a job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import live, names, plain
from app.model import catalog
from app.runs import permissions, runlog
from compression import data as datasets
from compression import home, tasks
from compression.errors import CompressionError
from compression.explain import METHODS
from compression.plots import tiles
from compression.runs.folder import RunFolder

if TYPE_CHECKING:
    from compression.explain.answering import Answering, Whole
    from compression.explain.comparison import Comparison
    from compression.explain.features import Features
    from compression.explain.models import Pair, Scan
    from compression.explain.stored import Shown
    from compression.graph import Graph

Maps = NDArray[np.float32]
Pixels = NDArray[np.uint8]
T = TypeVar("T")
Key = tuple[str, int]  # a run's folder, and when its packed weights were written


def check(run: str) -> None:
    """Can the models of this run be restored here, without downloads and without code nobody named?

    Raises:
        CompressionError: what is missing, and what to do about it.
    """
    folder = runlog.folder(run)
    budget = folder.budget()
    if not _packed(folder).is_file():
        raise CompressionError(f"run {run} has no packed weights here: run its budget again")
    permissions.check(budget)
    named = budget.data in datasets.names()
    if named and not datasets.info(budget.data).local:
        raise CompressionError(
            f"the {datasets.kind(budget.data).many} of {names.data_label(budget.data)} are not on this machine: any "
            f"command that uses them, such as `{home.PROGRAM} train`, downloads them; or name their folder in "
            "COMPRESSION_DATA"
        )


def unsuited(run: str) -> str:
    """Why maps say nothing about the data of this run, in one line; empty for images."""
    data = runlog.folder(run).budget().data
    kind, label = datasets.kind(data), names.data_label(data)
    if tasks.attributable(data):
        return ""
    if kind is datasets.IMAGE:
        return f"Maps show which pixels count for the class of a whole image; the task here is {datasets.task(data)}."
    if kind is datasets.PIXEL:
        return f"Maps show which pixels of an image count for an answer; here the network is the image: {label}."
    return f"Maps show which pixels count: there are none in the {kind.many} of {label}."


def key(run: str) -> Key:
    """What everything cached about a run depends on; ``run`` has its packed weights (see :func:`check`)."""
    folder = runlog.workplace(run)
    return str(folder.path.resolve()), _packed(folder).stat().st_mtime_ns


def models(run_key: Key) -> Pair:
    """Both models, and the data; shared by all tabs, so nobody may change them.

    Raises:
        CompressionError: weights or data are missing or damaged.
    """
    from compression.explain import pair

    return _restored("models", run_key, pair)


def question(run: str) -> str:
    """Which question suits a run that maps say nothing about: a sentence, a region, or none (empty)."""
    from compression.explain.answering import offered

    data = runlog.folder(run).budget().data
    return offered(datasets.kind(data), datasets.task(data))


def answering(run_key: Key) -> Answering:
    """Both models of a run of any task, and the task; shared by all tabs, so nobody may change them.

    Raises:
        CompressionError: weights or data are missing or damaged.
    """
    from compression.explain.answering import answering as restore

    return _restored("answering", run_key, restore)


def _restored(kind: str, run_key: Key, restore: Callable[[RunFolder], T]) -> T:
    catalog.quiet()
    model, need = _need(run_key)
    with st.spinner("Restoring both models…"):
        return live.memory().hold((kind, run_key), model, need, lambda: restore(RunFolder(run_key[0])))


@st.cache_data(max_entries=16, show_spinner="Asking both models…")
def whole(run_key: Key, image: int) -> Whole:
    """What both models make of a picture."""
    from compression.explain import answering as library

    return library.whole(answering(run_key), image)


@st.cache_data(max_entries=64, show_spinner=False)
def _need(run_key: Key) -> tuple[str, int]:
    """The model's name, and the bytes of its three copies: before, after and with fresh weights."""
    budget = RunFolder(run_key[0]).budget()
    return budget.model, 3 * live.WEIGHTS * catalog.traced(catalog.of_budget(budget)).graph.params


@st.cache_data(max_entries=32, show_spinner="Looking for images whose class changed…")
def scan(run_key: Key, macs: float) -> Scan:
    """What both models answer to the first test images: as many as take some seconds."""
    from compression.explain import scan as look
    from compression.explain.models import affordable

    return look(models(run_key), affordable(macs))


def refusal(run_key: Key, method: str) -> str:
    """Why a method says nothing about this network; empty where it does."""
    return "" if method != "grad_cam" else cam(run_key)[1]


@st.cache_data(max_entries=32, show_spinner=False)
def cam(run_key: Key) -> tuple[str, str]:
    """The layer that Grad-CAM looks at with the size of its maps, or why there is none."""
    from compression.explain import cam_layer

    layer = cam_layer(models(run_key).dense, models(run_key).input)
    return (f"{plain.code(layer.name)}, maps of {layer.size[0]} × {layer.size[1]}" if layer.name else "", layer.reason)


@st.cache_data(max_entries=32, show_spinner=False)
def straight_through(run_key: Key) -> bool:
    """Does the compressed model round what flows between its layers?"""
    from compression.quant import activation_quantizers

    return bool(activation_quantizers(models(run_key).small))


def maps(run_key: Key, method: str, images: tuple[int, ...], macs: float) -> tuple[Maps, Maps] | None:
    """The maps of both models for these test images: from the job's file, or computed now where that is quick."""
    stored = shown(run_key)
    result = stored.maps_of(method, list(images)) if stored is not None else None
    if result is None and not METHODS[method].heavy:
        return _light(run_key, method, images, macs)
    return result


@st.cache_data(max_entries=64, show_spinner="Asking both models which pixels count…")
def _light(run_key: Key, method: str, images: tuple[int, ...], macs: float) -> tuple[Maps, Maps]:
    import torch

    from compression.explain.comparison import Explainers

    both, answers = models(run_key), scan(run_key, macs)
    explainers, batch = Explainers.from_pair(both), both.images(list(images))
    targets = torch.tensor([answers.before[image] for image in images])
    dense, small = (each.attribute(method, batch, targets).numpy() for each in (explainers.dense, explainers.small))
    return dense, small


def comparison(run_key: Key) -> Comparison | None:
    """The scores the last job left; none where no job has finished since the weights were packed."""
    from compression.explain import stored

    folder = RunFolder(run_key[0])
    path = stored.result_path(folder)
    return _comparison(run_key, path.stat().st_mtime_ns) if _fresh(run_key) else None


@st.cache_data(max_entries=16, show_spinner=False)
def _comparison(run_key: Key, written: int) -> Comparison | None:
    from compression.explain import stored

    return stored.comparison(RunFolder(run_key[0]))


def shown(run_key: Key) -> Shown | None:
    """The maps the last job left."""
    from compression.explain import stored

    path = stored.result_path(RunFolder(run_key[0]))
    return _shown(run_key, path.stat().st_mtime_ns) if _fresh(run_key) else None


@st.cache_resource(max_entries=4, show_spinner=False)
def _shown(run_key: Key, written: int) -> Shown | None:
    from compression.explain import stored

    return stored.shown(RunFolder(run_key[0]))


def _fresh(run_key: Key) -> bool:
    from compression.explain import stored

    path = stored.result_path(RunFolder(run_key[0]))
    return path.is_file() and path.stat().st_mtime_ns >= run_key[1]


def tile_infos(
    run_key: Key, method: str, images: Sequence[int], both_maps: tuple[Maps, Maps], macs: float
) -> list[tiles.TileInfo]:
    """Everything a tile draws, for each image."""
    import torch

    from compression.explain import spearman

    both, answers = models(run_key), scan(run_key, macs)
    classes, test = both.data.classes, both.data.split("test")
    pixels = test.take(torch.tensor(list(images)))[0].numpy()
    infos = []
    for image, own, dense, small in zip(images, pixels, *both_maps, strict=True):
        answers_of = [classes[i] for i in (answers.labels[image], answers.before[image], answers.after[image])]
        alike = spearman(dense, small)
        infos.append(tiles.tile_info(image, own, (dense, small), METHODS[method].signed, answers_of, alike))
    return infos


def test_pixels(run_key: Key, image: int) -> NDArray[np.uint8]:
    """A test image as it is stored, uint8 [C, H, W]."""
    import torch

    pixels: NDArray[np.uint8] = models(run_key).data.split("test").take(torch.tensor([image]))[0][0].numpy()
    return pixels


def passes(run_key: Key, method: str) -> int:
    """How many passes through the network a map takes."""
    from compression.explain.attribution import passes

    return passes(method, models(run_key).input)


def own_tile(run_key: Key, method: str, pixels: NDArray[np.uint8]) -> tiles.TileInfo:
    """The maps of both models for a picture that is in no data set; both explain what the original answers."""
    import torch

    from compression.explain import own_image, spearman
    from compression.explain.comparison import Explainers

    both = models(run_key)
    before, after = own_image.answers(pixels, both).classes
    explainers, batch = Explainers.from_pair(both), own_image.as_input(pixels, both)
    target = torch.tensor([before], device=both.device)
    dense, small = (
        each.attribute(method, batch, target).cpu().numpy()[0] for each in (explainers.dense, explainers.small)
    )
    names = ["", both.data.classes[before], both.data.classes[after]]
    return tiles.tile_info(None, pixels, (dense, small), METHODS[method].signed, names, spearman(dense, small))


def dense_graph(run_key: Key) -> Graph:
    """The graph of the network that the run began with."""
    return catalog.traced(catalog.of_budget(RunFolder(run_key[0]).budget())).graph


def layers_with_maps(run_key: Key) -> list[str]:
    """The convolutions that both models have."""
    from compression.explain import features

    return features.offered(dense_graph(run_key), models(run_key))


def features(run_key: Key, graph: Graph, units: Mapping[str, Sequence[int]], layer: str, image: Pixels) -> Features:
    """What the channels of a layer make of a picture, uint8 [C, H, W].

    Raises:
        CompressionError: the layer makes no maps, or the run's files do not agree.
    """
    from compression.explain import features, own_image

    both = models(run_key)
    return features.features(both, graph, units, layer, own_image.as_input(image, both))


def raw(infos: Sequence[tiles.TileInfo], both_maps: tuple[Maps, Maps]) -> bytes:
    """The maps as a NumPy archive: ``images`` (places in the test split), ``original`` and ``compressed`` [N, H, W]."""
    import io

    stream = io.BytesIO()
    places: Any = np.array([info.image for info in infos])
    np.savez_compressed(stream, images=places, original=both_maps[0], compressed=both_maps[1])
    return stream.getvalue()


def _packed(folder: RunFolder) -> Any:
    return folder.bundle / "weights.packed"
