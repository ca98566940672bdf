"""Image classifiers of the Hugging Face Hub by the name of their repository, ``hf:OWNER/NAME``, from its local cache.

Only a configuration and safetensors that were downloaded before (``hf download OWNER/NAME``) are read, and no code of a
repository is run: the network is the class of ``transformers`` for the kind of model that the configuration names.
"""

from __future__ import annotations

import importlib
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NotRequired

import torch
from pydantic import TypeAdapter
from torch import nn
from typing_extensions import TypedDict

from compression import home
from compression.errors import CompressionError
from compression.reading import Name, Number, Whole, cut, read_object, typed
from compression.zoo.registry import ModelSpec

PREFIX, CONFIG, PICTURES, WEIGHTS = "hf:", "config.json", "preprocessor_config.json", "model.safetensors"
MOST = 4 << 20  # bytes of a configuration; that of a model of 21,000 classes has 2 MB
SIDE, CHANNELS = 224, 3  # of configurations that do not say


class _Config(TypedDict):
    """Fields of ``config.json`` that are read here; transformers reads the others."""

    model_type: Name
    image_size: NotRequired[Whole | list[Whole]]
    num_channels: NotRequired[Whole]


class _Pictures(TypedDict):
    """Fields of ``preprocessor_config.json`` that are read."""

    image_mean: NotRequired[list[Number]]
    image_std: NotRequired[list[Number]]


_CONFIG, _PICTURES = TypeAdapter(_Config), TypeAdapter(_Pictures)


def repository(name: str) -> str:
    """OWNER/NAME of ``hf:OWNER/NAME``; empty for the name of an architecture, such as ``hf:bert``."""
    short = name.removeprefix(PREFIX)
    return short if name.startswith(PREFIX) and "/" in short else ""


@lru_cache(maxsize=16)
def hub_spec(name: str) -> ModelSpec:
    """The spec of ``hf:OWNER/NAME``: as large, with as many classes, and for pictures scaled as its files say.

    Raises:
        CompressionError: it is not in the cache, or no image classifier that transformers knows.
    """
    raw = _written(name)
    known = typed(_CONFIG, raw, f"{CONFIG} of {name}")
    sides = known.get("image_size", SIDE)
    height, width = (sides, sides) if isinstance(sides, int) else (*sides, *sides)[:2]
    config = _config(name, raw)
    input = (known.get("num_channels", CHANNELS), height, width)
    summary = "An image classifier of the Hugging Face Hub; its weights are `pretrained`."
    return ModelSpec(
        name, repository(name), summary, "hf", input, config.num_labels, (), partial(_make, name, config),
        preprocess=_preprocess(name),
    )  # fmt: skip


def cached(name: str, file: str) -> Path | None:
    """A file of the repository of ``hf:OWNER/NAME`` in the cache of huggingface_hub.

    Raises:
        CompressionError: huggingface_hub is not installed, or there can be no repository of this name.
    """
    with home.optional():
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    try:
        path = try_to_load_from_cache(repository(name), file, cache_dir=constants.HF_HUB_CACHE)
    except HFValidationError as error:
        raise CompressionError(f"{cut(name)} names no repository: hf:OWNER/NAME") from error
    return Path(path) if isinstance(path, str) else None


def tensors(name: str) -> dict[str, torch.Tensor]:
    """The weights in the cache, by the names that the network has for them: files have those of older versions.

    Raises:
        CompressionError: the files are not there, or not those of such a network.
    """
    transformers = _transformers()
    transformers.utils.logging.disable_progress_bar()
    folder, config = cached(name, WEIGHTS), _config(name, _written(name))
    if folder is None:
        raise CompressionError(f"{name} has no {WEIGHTS} in the cache of the Hub", f"hf download {repository(name)}")
    try:
        model, report = transformers.AutoModelForImageClassification.from_pretrained(
            folder.parent, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # whatever transformers and its checks of fields raise
        raise CompressionError(f"{name}: transformers cannot read its {WEIGHTS}: {_line(error)}") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            raise CompressionError(
                f"{name}: its {WEIGHTS} is of another network: {what} {cut(str(sorted(report[what])))}"
            )
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def _written(name: str) -> dict[str, Any]:
    """Its configuration as it is written."""
    file = cached(name, CONFIG)
    if file is None:
        raise CompressionError(f"{name} is not in the cache of the Hub", f"hf download {repository(name)}")
    return read_object(file, "configuration", MOST)


def _config(name: str, raw: dict[str, Any]) -> Any:
    """The configuration as transformers has it."""
    known = _transformers().AutoConfig
    try:
        return known.for_model(**raw)
    except Exception as error:  # whatever transformers and its checks of fields raise
        raise CompressionError(f"{name}: transformers cannot read its {CONFIG}: {_line(error)}") from error


def _preprocess(name: str) -> dict[str, Any]:
    """How its pictures are normalised; nothing where it does not say."""
    file = cached(name, PICTURES)
    if file is None:
        return {}
    known = typed(_PICTURES, read_object(file, "preprocessing", MOST), f"{PICTURES} of {name}")
    return {new: known[old] for new, old in (("mean", "image_mean"), ("std", "image_std")) if old in known}  # type: ignore[literal-required]


def _make(name: str, config: Any, input: tuple[int, ...], classes: int | None) -> nn.Module:
    """The network with initial weights, of which ``forward`` returns the logits alone."""
    changed = type(config).from_dict(config.to_dict())
    changed.num_labels = classes or config.num_labels
    if getattr(changed, "image_size", None) is not None:
        changed.image_size = input[1] if input[1] == input[2] else list(input[1:])
    if hasattr(changed, "num_channels"):
        changed.num_channels = input[0]
    try:
        model = _transformers().AutoModelForImageClassification.from_config(
            changed, trust_remote_code=False, dtype=torch.float32
        )
    except Exception as error:  # whatever transformers and its checks of fields raise
        raise CompressionError(f"{name} is no image classifier that transformers can build: {_line(error)}") from error
    return _answering_logits(model)


def _answering_logits(model: nn.Module) -> nn.Module:
    """The same module, names of its parameters included, with tensors in the place of transformers' records."""
    kind = type(model)

    def forward(self: Any, pixel_values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = kind.forward(self, pixel_values).logits
        return logits

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return model


def _transformers() -> Any:
    with home.optional():
        return importlib.import_module("transformers")


def _line(error: Exception) -> str:
    return cut((str(error).strip().splitlines() or [type(error).__name__])[0])
