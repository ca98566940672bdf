"""Options that several commands share: how a value is spelled, and what ``--help`` says of it."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from cyclopts import Parameter

from compression import data as data_sets
from compression.asks import OPTIONS, BitRange
from compression.budget import LR_SCHEDULES, OPTIMIZERS, PRECISIONS
from compression.devices import NAMES
from compression.errors import CompressionError
from compression.reading import NotJson, json_value

HIGHEST_PRIORITY = 1_000_000


def number(text: str) -> float:
    """A finite number; whole ones are integers. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return int(value) if value == int(value) else value


def sizes(text: str) -> tuple[int, ...]:
    """``3x32x32`` as (channels, height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError("It must be channels x height x width such as 3x32x32")
    return tuple(int(part) for part in parts)


def priority(text: str) -> int:
    """A whole number of a size that the list of runs can sort by."""
    if not re.fullmatch(r"[+-]?\d{1,7}", text) or abs(int(text)) > HIGHEST_PRIORITY:
        raise ValueError(f"It must be a whole number of at most {HIGHEST_PRIORITY:,}")
    return int(text)


def assignments(words: tuple[str, ...], option: str, read: Callable[[str], Any]) -> dict[str, Any]:
    """Several ``KEY=VALUE`` as a dictionary, the values read by ``read``.

    Raises:
        CompressionError: naming the ``option`` and the word without a key.
    """
    pairs = [word.partition("=") for word in words]
    for word, (key, equals, _) in zip(words, pairs, strict=True):
        if not equals or not key:
            raise CompressionError(f"{option} must be key=value, not {word!r}")
    return {key: read(value) for key, _, value in pairs}


def json_or_text(text: str) -> Any:
    """A value of ``--option``: JSON where it is some, else the text."""
    try:
        return json_value(text, "--option")
    except NotJson:
        return text


def numbers_or_text(text: str) -> Any:
    """A value of ``--preprocess``: a number, several of them with commas, or a word."""
    try:
        numbers = [number(part) for part in text.split(",")]
    except ValueError:
        return text
    return numbers if len(numbers) > 1 else numbers[0]


def writable(option: str) -> Callable[[Any, str | None], None]:
    """The check that a file can be written, made before any work is done for it; ``-`` is standard output."""

    def check(_: Any, path: str | None) -> None:
        if path is None or path == "-":
            return
        if path.startswith("-"):
            raise CompressionError(f"{option} needs the name of a file, not {path} (a file of this name: ./{path})")
        if Path(path).is_dir():
            raise CompressionError(f"{option} {path} is a folder; name a file in it")
        if not Path(path).absolute().parent.is_dir():
            raise CompressionError(f"{option} {path}: the folder {Path(path).parent} does not exist; make it first")

    return check


def _note_folder(_: Any, data: str | None) -> None:
    """Say that a known name means the data set where a folder in the working folder has the same name."""
    if data in data_sets.names() and Path(str(data)).is_dir():
        print(f"note: {data} is the data set of this name; the folder here is ./{data}", file=sys.stderr)


def _read_by(read: Callable[[str], Any]) -> Parameter:
    return Parameter(converter=lambda _, tokens: read(tokens[0].value), n_tokens=1)


def _file(option: str, help: str) -> Parameter:
    return Parameter(metavar="FILE", validator=writable(option), allow_leading_hyphen=True, help=help)


COUNT = _read_by(int)
DATA = Parameter(validator=_note_folder)

Json = Annotated[str | None, _file("--json", "write the answer as JSON; - is standard output")]
Dot = Annotated[str | None, _file("--dot", "write the graph for Graphviz; - is standard output")]
WeightsOut = Annotated[str | None, _file("--out", "where to write the weights (.safetensors)")]
BundleOut = Annotated[str, _file("--out", "the zip to write")]
ReportOut = Annotated[str, _file("--out", "the HTML file to write; - is standard output")]
Runs = Annotated[str, Parameter(metavar="DIR", help="where runs are stored")]
Run = Annotated[str, Parameter(help="its id, as `runs` lists it")]
Device = Annotated[str, Parameter(metavar="NAME", help=f"{NAMES}; auto is COMPRESSION_DEVICE, else the best there is")]
Detach = Annotated[bool, Parameter(help="print the id and return at once")]
Priority = Annotated[
    int, _read_by(priority), Parameter(metavar="N", help="of runs that wait, the highest starts first (default: 0)")
]
Model = Annotated[str, Parameter(help="a model of the zoo, torchvision:NAME or path/to/file.py:function")]
Data = Annotated[
    str,
    DATA,
    Parameter(
        name=("--data", "--task"),
        help="a data set by name, a folder of images in class folders or with masks (of a known name: ./NAME), or a "
        "task of your own, path/to/file.py:function",
    ),
]
TrainedOn = Annotated[str | None, DATA, Parameter(help="take the weights trained on this data set")]
Method = Annotated[str, Parameter(help="see the command methods (default: its first)")]
Config = Annotated[
    str | None, Parameter(metavar="FILE", help="a budget as JSON; other options change single values of it")
]
Input = Annotated[
    tuple[int, ...] | None,
    _read_by(sizes),
    Parameter(metavar="CxHxW", help="such as 3x32x32 (default: the model's own)"),
]
Classes = Annotated[int | None, COUNT, Parameter(metavar="N", help="how many classes (default: the model's own)")]
Weights = Annotated[
    str | None,
    Parameter(
        metavar="FILE",
        help="trained weights (safetensors; .pt and .th are understood), or of a model of your own: function, those it "
        "returns, or initial, which says that these are not trained; pretrained: those published for a model of "
        "torchvision, timm or the Hub (files of these names: ./function, ./initial, ./pretrained)",
    ),
]
Preprocess = Annotated[
    tuple[str, ...],
    Parameter(
        metavar="KEY=VALUE",
        consume_multiple=(1, 1000),
        help="how images are brought to the model's input: mean=R,G,B std=R,G,B (of 0..1), resize=PIXELS (shorter "
        "side), crop=PIXELS (middle), interpolation=bilinear, range=BLACK,WHITE (of 16-bit and float files)",
    ),
]
Option = Annotated[tuple[str, ...], Parameter(metavar="KEY=VALUE", help="an option of the method")]
Epochs = Annotated[float, Parameter(help="passes over the training images, such as 4 or 0.5")]
Seed = Annotated[int, COUNT, Parameter(help="of batches, augmentation and initial weights")]


def _asks(option: str) -> Parameter:
    metavar = "LO:HI" if isinstance(OPTIONS[option], BitRange) else "S"
    return Parameter(metavar=metavar, help=OPTIONS[option].help)


class Shape(TypedDict, total=False):
    """Which model exactly."""

    input: Input
    classes: Classes
    weights: Weights


class Training(TypedDict, total=False):
    """How to train, as a budget says it."""

    batch_size: Annotated[int, COUNT, Parameter(help="images in a step")]
    lr: Annotated[float, Parameter(help="learning rate of the weights, at the start")]
    weight_decay: Annotated[float, Parameter(help="L2 penalty on the weights, such as 1e-4")]
    precision: Annotated[str, Parameter(choices=PRECISIONS)]


class Amounts(TypedDict, total=False):
    """The asks of methods that allocate."""

    sparsity: Annotated[str, _asks("--sparsity")]
    bits: Annotated[str, _asks("--bits")]


class _Named(TypedDict, total=False):
    config: Config
    model: Model
    data: Data
    method: Method


class BudgetFields(_Named, Shape, Training, total=False):
    """Fields of a budget that are the same for every method."""

    preprocess: Preprocess
    epochs: Epochs
    optimizer: Annotated[str, Parameter(choices=OPTIMIZERS)]
    lr_schedule: Annotated[str, Parameter(choices=LR_SCHEDULES)]
    seed: Seed
    option: Option


class WholeBudget(BudgetFields, Amounts, total=False):
    """A whole budget with the asks that are known here."""

    activation_bits: Annotated[str, _asks("--activation-bits")]
    lr_quant: Annotated[str, _asks("--lr-quant")]


NOTHING: WholeBudget = {}
Typed = Annotated[WholeBudget, Parameter(name="*")]
"""A budget's options where they are typed. A parameter of this type begins with an underscore, as no option does: what
else a method asks for reaches the command's ``**`` parameter by its name."""

More = Annotated[str, Parameter(metavar="VALUE", help="what else the method asks for: see `methods METHOD`")]
