"""What a panel explores: a model and a task by their names, or objects of the notebook, which runs find in a folder."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from compression import home, tasks, zoo
from compression.budget import OWN_WEIGHTS, Budget
from compression.data import Batches, DataSet
from compression.data.catalogue import folder_of
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import deep_copy, trace
from compression.plots.titles import data_label, model_label
from compression.runs.files import written_in
from compression.runs.preflight import absolute
from compression.runs.prepare import find_weights, shape
from compression.tasks import Metric, Task
from compression.training.trainable import check_compressible
from compression.zoo.imported import unwrapped
from compression.zoo.origin import weighted

PLACE = ("model", "data", "weights", "input", "classes", "preprocess")
"""Fields of a budget that say what is compressed, and not how."""
OF_NAMES = ("weights", "input", "classes")
SOURCE = '''"""A network and a task of a notebook, stored by `explore` for the runs that were started there."""

import sys
from pathlib import Path

PLACES = {places!r}
sys.path += [place for place in PLACES if place not in sys.path]


def _stored(name):
    import cloudpickle

    return cloudpickle.loads((Path(__file__).parent / name).read_bytes())


def model():
    """The network, with its weights, and an example of its inputs."""
    return _stored("model.pickle")


def task():
    """The task, with its data."""
    return _stored("task.pickle")
'''


@dataclass(frozen=True, eq=False)
class Explored:
    """A traced network with its task: ``place`` are the fields of a budget that name both, ``title`` is for people.

    ``stored``: name → object of the notebook that runs need; :meth:`store` writes them where ``place`` says.
    """

    place: Mapping[str, Any]
    subject: Subject
    metric: Metric
    title: str
    folder: Path | None = None
    stored: Mapping[str, Any] = field(default_factory=dict)

    def store(self) -> None:
        """Write the objects of the notebook, once, as a file with functions that return them.

        Raises:
            CompressionError: they cannot be stored or written.
        """
        if self.folder is None or (self.folder / "subject.py").is_file():
            return
        with home.optional():
            import cloudpickle

        places = [str(Path(place).resolve()) for place in sys.path if Path(place).is_dir()]
        with written_in(self.folder.parent):
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, value in self.stored.items():
                try:
                    content = cloudpickle.dumps(value)
                except Exception as error:  # whatever the classes of a user raise when they are pickled
                    why = f"{type(error).__name__}: {error}".splitlines()[0]
                    raise CompressionError(
                        f"the {name} cannot be stored for a run ({why}): give it as path/to/file.py:function"
                    ) from error
                (self.folder / f"{name}.pickle").write_bytes(content)
            (self.folder / "subject.py").write_text(SOURCE.format(places=places), encoding="utf-8")


def explored(model: nn.Module | str, data: Task | DataSet | str, root: Path, place: Mapping[str, Any]) -> Explored:
    """Load, trace and check what is to be compressed; ``place`` are the fields of a budget among :data:`PLACE`.

    ``root``: the folder of the runs; objects of the notebook will be beside it.

    Raises:
        CompressionError: unknown model or data, no trained weights, or a network that cannot be compressed.
    """
    if isinstance(model, str) and isinstance(data, str):
        return _by_name(model, data, place)
    folder = root.with_name(f"{root.name}-subjects") / secrets.token_hex(4)
    task = tasks.load(data, preprocess=place.get("preprocess")) if isinstance(data, str) else tasks.task_of(data)
    names: dict[str, Any] = {"preprocess": place.get("preprocess")}
    if isinstance(data, str):
        names["data"] = absolute(Budget(data=data)).data
    else:
        names["data"] = f"{folder / 'subject.py'}:task"
    label = data_label(names["data"]) if isinstance(data, str) else task.data.label
    stored: dict[str, Any] = {} if isinstance(data, str) else {"task": task}
    if isinstance(model, str):
        return _on_own_task(model, task, label, names, {**place}, folder, stored)
    for name in OF_NAMES:
        if place.get(name) is not None:
            raise CompressionError(f"{name} is for a model by its name; this one is a module, which has its own")
    network = deep_copy(unwrapped(model)).cpu().eval()
    example, _ = Batches(task.data, "train", 1, augment=False).batch(0, 0)
    graph = trace(network, example)
    check_compressible(network, graph, "the model")
    stored["model"] = (network, example)
    names |= {"model": f"{folder / 'subject.py'}:model", "weights": OWN_WEIGHTS}
    title = f"{type(network).__name__} on {label}"
    return Explored(names, Subject(network, graph), task.metric, title, folder, stored)


def _by_name(model: str, data: str, place: Mapping[str, Any]) -> Explored:
    """A model and a task as the command line names them, with their trained weights."""
    zoo.spec(model)
    folder_of(data)
    budget = absolute(Budget(model=model, data=data, **place))
    trained = find_weights(budget)
    graph = trace(trained.model, zoo.example(budget.model, input=shape(budget)[0]))
    check_compressible(trained.model, graph, budget.model)
    names = {name: getattr(budget, name) for name in PLACE}
    title = f"{model_label(model)} on {data_label(data)}"
    return Explored(names, Subject(trained.model, graph), tasks.metric(budget.data), title)


def _on_own_task(
    model: str, task: Task, label: str, names: dict[str, Any], place: Mapping[str, Any], folder: Path,
    stored: Mapping[str, Any],
) -> Explored:  # fmt: skip
    """A model by its name on a task of the notebook: whose weights it has, somebody has to say."""
    budget = absolute(Budget(model=model, **{name: place[name] for name in OF_NAMES if name in place}))
    trained = weighted(budget.model, *shape(budget), budget.weights, ())
    if trained is None:
        raise CompressionError(f"{model} has no weights that were trained on this task: name their file, weights=…")
    graph = trace(trained.model, zoo.example(budget.model, input=shape(budget)[0]))
    check_compressible(trained.model, graph, budget.model)
    names |= {name: getattr(budget, name) for name in ("model", *OF_NAMES)}
    title = f"{model_label(model)} on {label}"
    return Explored(names, Subject(trained.model, graph), task.metric, title, folder, stored)
