"""Options that several commands share, what their values mean, and the budget they add up to."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any
from typing import NoReturn

from compression.budget import LR_SCHEDULES
from compression.budget import OPTIMIZERS
from compression.budget import PRECISIONS
from compression.budget import BitRange
from compression.budget import Budget
from compression.errors import CompressionError
from compression.reading import NotJson
from compression.reading import json_value

Bits = float | BitRange
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
        "--priority", type=int, default=0, metavar="N", help="of runs that wait, the highest starts first (default: 0)"
    )


def add_shape(parser: argparse.ArgumentParser) -> None:
    """``--input``, ``--classes``, ``--weights``: which model exactly."""
    parser.add_argument("--input", type=sizes, metavar="CxHxW", help="such as 3x32x32 (default: the model's own)")
    parser.add_argument("--classes", type=int, metavar="N", help="how many classes (default: the model's own)")
    parser.add_argument("--weights", metavar="FILE", help="trained weights (safetensors; .pt and .th are understood)")


def add_budget(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Everything a budget is made of; with ``several`` a comma separates values of --sparsity and --bits."""
    parser.add_argument("--config", metavar="FILE", help="a budget as JSON; other options change single values of it")
    parser.add_argument("--model", help="a model of the zoo, torchvision:NAME or path/to/file.py:function")
    parser.add_argument("--data", help="a data set by name, or a folder of images in class folders")
    parser.add_argument("--method", help="geta, opq, … (default: geta)")
    parser.add_argument("--sparsity", type=many_shares if several else float, metavar="S", help="share in [0, 1)")
    parser.add_argument("--bits", type=many_bits if several else bits, metavar="LO:HI", help="range, or one number")
    parser.add_argument("--activation-bits", type=bit_range, metavar="LO:HI", help="quantize activations too")
    add_shape(parser)
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
    "model data method input classes weights epochs batch_size optimizer lr lr_quant lr_schedule weight_decay"
    " precision seed activation_bits"
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
    if asked.option:
        changes["options"] = {**base.options, **dict(asked.option)}
    return base.replace(**changes)


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
