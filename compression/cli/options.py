"""Options that several commands share, what their values mean, and the budget they add up to."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from compression import data as data_sets
from compression import zoo
from compression.budget import LR_SCHEDULES, OPTIMIZERS, PRECISIONS, Budget
from compression.errors import CompressionError
from compression.preprocess import merged
from compression.reading import NotJson, expanded, json_value
from compression.runs.names import model_name
from compression.runs.sweep import with_values

BitRange = tuple[float, float]
Bits = float | BitRange
HIGHEST_PRIORITY = 1_000_000
Commands = argparse._SubParsersAction  # the class has no public name


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with status 2."""
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def sizes(text: str) -> tuple[int, ...]:
    """``3x32x32`` as (channels, height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"must be channels x height x width such as 3x32x32, not {text!r}")
    return tuple(int(part) for part in parts)


def bits(text: str) -> Bits:
    """``4:8`` as a range, ``4`` as a number."""
    try:
        low, colon, high = text.partition(":")
        return (_number(low), _number(high)) if colon else _number(low)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be LO:HI or one number such as 4:8 or 4, not {text!r}") from error


def bit_range(text: str) -> BitRange:
    """``4:8``, or one number for both ends."""
    found = bits(text)
    return found if isinstance(found, tuple) else (found, found)


def many_bits(text: str) -> list[Bits]:
    """Comma-separated values of ``--bits``."""
    return [bits(part) for part in text.split(",")]


def many_shares(text: str) -> list[float]:
    """Comma-separated values of ``--sparsity``."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be numbers separated by commas, not {text!r}") from error


def priority(text: str) -> int:
    """A whole number of a size that the list of runs can sort by."""
    try:
        value = int(text)
    except ValueError:
        value = HIGHEST_PRIORITY + 1
    if abs(value) > HIGHEST_PRIORITY:
        raise argparse.ArgumentTypeError(f"must be a whole number of at most {HIGHEST_PRIORITY:,}, not {text!r}")
    return value


def assignment(text: str) -> tuple[str, Any]:
    """``key=value``; the value is read as JSON where it is some, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be key=value, not {text!r}")
    try:
        return key, json_value(value, key)
    except NotJson:
        return key, value
    except CompressionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def preprocessing(text: str) -> tuple[str, Any]:
    """One ``key=value`` of ``--preprocess``: numbers, several of them with commas, or a word."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be key=value such as mean=0.5, not {text!r}")
    try:
        numbers = [_number(part) for part in value.split(",")]
    except ValueError:
        return key, value
    return key, numbers if len(numbers) > 1 else numbers[0]


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return int(value) if value == int(value) else value


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json FILE``."""
    parser.add_argument("--json", metavar="FILE", help="write the answer as JSON; - is standard output")


def add_runs(parser: argparse.ArgumentParser) -> None:
    """``--runs DIR``."""
    parser.add_argument("--runs", metavar="DIR", default="runs", help="where runs are kept (default: %(default)s)")


def add_priority(parser: argparse.ArgumentParser) -> None:
    """``--priority``."""
    parser.add_argument(
        "--priority",
        type=priority,
        default=0,
        metavar="N",
        help="of runs that wait, the highest starts first (default: 0)",
    )


def add_shape(parser: argparse.ArgumentParser) -> None:
    """``--input``, ``--classes``, ``--weights``: which model exactly."""
    parser.add_argument("--input", type=sizes, metavar="CxHxW", help="such as 3x32x32 (default: the model's own)")
    parser.add_argument("--classes", type=int, metavar="N", help="how many classes (default: the model's own)")
    parser.add_argument(
        "--weights", metavar="FILE",
        help="trained weights (safetensors; .pt and .th are understood), or of a model of your own: function, those it "
        "returns, or initial, which says that these are not trained (files of these names: ./function, ./initial)",
    )  # fmt: skip


def add_preprocess(parser: argparse.ArgumentParser) -> None:
    """``--preprocess``: how images are brought to the model's input."""
    parser.add_argument(
        "--preprocess", type=preprocessing, nargs="+", action="extend", metavar="KEY=VALUE",
        help="how images are brought to the model's input: mean=R,G,B std=R,G,B (of 0..1), resize=PIXELS (shorter "
        "side), crop=PIXELS (middle), interpolation=bilinear, range=BLACK,WHITE (of 16-bit and float files)",
    )  # fmt: skip


def add_budget(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Everything a budget is made of; with ``several`` a comma separates values of --sparsity and --bits."""
    parser.add_argument("--config", metavar="FILE", help="a budget as JSON; other options change single values of it")
    parser.add_argument("--model", help="a model of the zoo, torchvision:NAME or path/to/file.py:function")
    parser.add_argument(
        "--data", help="a data set by name, or a folder of images in class folders (of a known name: ./NAME)"
    )
    parser.add_argument("--method", help="see the command methods (default: its first)")
    parser.add_argument("--sparsity", type=many_shares if several else float, metavar="S", help="share in [0, 1)")
    parser.add_argument("--bits", type=many_bits if several else bits, metavar="LO:HI", help="range, or one number")
    parser.add_argument("--activation-bits", type=bit_range, metavar="LO:HI", help="quantize activations too")
    add_shape(parser)
    add_preprocess(parser)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--optimizer", choices=OPTIMIZERS)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--lr-quant", type=float)
    parser.add_argument("--lr-schedule", choices=LR_SCHEDULES)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--precision", choices=PRECISIONS)
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--option", type=assignment, action="append", default=[], metavar="KEY=VALUE", help="an option of the method"
    )


_SAME = (
    "model data method input classes weights epochs batch_size optimizer lr lr_schedule weight_decay precision seed"
).split()


def budget(asked: argparse.Namespace) -> Budget:
    """The budget of ``--config`` with the options on top; --sparsity and --bits are left to the command.

    Raises:
        CompressionError: a file or value that cannot be used, or no model or data named.
    """
    if asked.config is None:
        for name in ("model", "data"):
            if getattr(asked, name) is None:
                raise CompressionError(f"--{name} is needed (or --config with a budget file)")
    base = Budget.load(asked.config) if asked.config else Budget()
    changes = {name: getattr(asked, name) for name in _SAME if getattr(asked, name) is not None}
    if asked.config:
        _check_places(asked.config, base, changes)
    if asked.option:
        changes["options"] = {**base.options, **dict(asked.option)}
    if asked.preprocess:
        changes["preprocess"] = merged(base.preprocess, dict(asked.preprocess))
    values = {"--activation-bits": asked.activation_bits, "--lr-quant": asked.lr_quant}
    return with_values(base.replace(**changes), {option: v for option, v in values.items() if v is not None})


def _check_places(config: str, base: Budget, changes: Mapping[str, Any]) -> None:
    """Refuse what a budget file names without its place, as bundles do: code runs only where the command line names it.

    Raises:
        CompressionError: saying which option says where it is.
    """
    if "model" not in changes and zoo.is_file(base.model) and not expanded(base.model).is_absolute():
        raise CompressionError(
            f"{config} names code as its model, without a folder ({base.model}); say that you mean it, and where it is",
            f"--model path/to/{model_name(base.model)}",
        )
    if "weights" not in changes and base.weights is not None and not expanded(base.weights).is_file():
        raise CompressionError(f"weights file {base.weights} of {config} does not exist", "say where, --weights FILE")
    folder = base.data not in data_sets.names() and not expanded(base.data).is_dir()
    if "data" not in changes and folder:
        raise CompressionError(
            f"{config} names the data {base.data}, no data set and no folder here", "say which, --data NAME or FOLDER"
        )


def check_target(path: str | None, option: str) -> None:
    """Refuse a file that cannot be written before any work is done for it.

    Raises:
        CompressionError: its folder does not exist, or it is a folder itself.
    """
    if path is None or path == "-":
        return
    if Path(path).is_dir():
        raise CompressionError(f"{option} {path} is a folder; name a file in it")
    if not Path(path).absolute().parent.is_dir():
        raise CompressionError(f"{option} {path}: the folder {Path(path).parent} does not exist; make it first")
