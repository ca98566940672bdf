"""The budget that the options of a command add up to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from compression import methods, owncode, zoo
from compression.asks import OPTIONS, BitRange
from compression.budget import NO_FILES, Budget
from compression.cli.options import BudgetFields, assignments, json_or_text, number, numbers_or_text
from compression.data.catalogue import folder_of
from compression.errors import CompressionError
from compression.preprocess import merged
from compression.reading import expanded
from compression.runs.names import data_name, model_name

FIELDS = BudgetFields.__annotations__.keys()


def common(options: Mapping[str, Any]) -> Budget:
    """The budget of ``--config`` with the other options on top, those of asks excepted.

    Raises:
        CompressionError: a file or value that cannot be used, or no model or data named.
    """
    config = options.get("config")
    for name in ("model", "data"):
        if config is None and name not in options:
            raise CompressionError(f"--{name} is needed (or --config with a budget file)")
    base = Budget.load(config) if config else Budget(**zoo.usual(options["model"]))
    fields = (FIELDS & Budget.model_fields.keys()) - {"preprocess"}
    changes = {name: value for name, value in options.items() if name in fields}
    if config:
        _check_places(config, base, changes)
    if "option" in options:
        changes["options"] = {**base.options, **assignments(options["option"], "--option", json_or_text)}
    if "preprocess" in options:
        preprocess = assignments(options["preprocess"], "--preprocess", numbers_or_text)
        changes["preprocess"] = merged(base.preprocess, preprocess)
    return base.replace(**changes)


def budget(options: Mapping[str, Any]) -> Budget:
    """The whole budget, with one value of every ask that was typed.

    Raises:
        CompressionError: as :func:`common`, or an ask that the method does not have, or a value that it cannot have.
    """
    values = {option: ask_value(option, text) for option, text in ask_texts(options).items()}
    return methods.with_values(common(options), values)


def budget_and_axes(options: Mapping[str, Any]) -> tuple[Budget, dict[str, list[Any]]]:
    """The budget, and option → values of ``--sparsity``, ``--bits`` and every ask with more than one value.

    Raises:
        CompressionError: as :func:`budget`.
    """
    values = {name: [ask_value(name, part) for part in text.split(",")] for name, text in ask_texts(options).items()}
    axes = {name: each for name, each in values.items() if len(each) > 1 or name in ("--sparsity", "--bits")}
    single = {name: each[0] for name, each in values.items() if name not in axes}
    base = common(options)
    methods.get(base.method).check_options(*values)
    return methods.with_values(base, single), axes


def ask_texts(options: Mapping[str, Any], fields: Collection[str] = FIELDS) -> dict[str, str]:
    """Option → text of everything that is not among the command's ``fields``: the asks of the method."""
    return {f"--{name.replace('_', '-')}": text for name, text in options.items() if name not in fields}


def ask_value(option: str, text: str) -> Any:
    """``4`` as a number, ``4:8`` as a range; a word as it is, where it is for a method to say what it may be.

    Raises:
        CompressionError: a standard ask, for which it must be one of the first two.
    """
    try:
        low, colon, high = text.partition(":")
        return (number(low), number(high)) if colon else number(low)
    except ValueError:
        if option not in OPTIONS:
            return text
        kind = "one number or LO:HI such as 4 or 4:8" if isinstance(OPTIONS[option], BitRange) else "a number"
        raise CompressionError(f"{option} must be {kind}, not {text!r}") from None


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
    if "data" not in changes and owncode.is_own(base.data) and not expanded(base.data).is_absolute():
        raise CompressionError(
            f"{config} names code as its task, without a folder ({base.data}); say that you mean it, and where it is",
            f"--task path/to/{data_name(base.data)}",
        )
    named = base.weights if base.weights not in NO_FILES else None
    if "weights" not in changes and named is not None and not expanded(named).is_file():
        raise CompressionError(f"weights file {base.weights} of {config} does not exist", "say where, --weights FILE")
    if "data" not in changes:
        try:
            folder_of(base.data)
        except CompressionError as error:
            raise CompressionError(f"{config}: {error}", "say which, --data NAME or FOLDER") from None
