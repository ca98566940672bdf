"""Models of two optional packages: timm's by name, and small transformers from a configuration; nothing is downloaded.

``pip install -r requirements-extra.txt`` brings both packages.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from torch import nn

from compression import home
from compression.errors import CompressionError
from compression.zoo.hub_model import hub_spec, repository
from compression.zoo.registry import ModelSpec

WIDTH, HEADS, BLOCKS, VOCABULARY, LENGTH = 64, 4, 2, 256, 16
SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS, "intermediate_size": 128}


def titles() -> dict[str, str]:
    """Name → title of every architecture of the installed ones of the two packages; does not import transformers."""
    result: dict[str, str] = {}
    if importlib.util.find_spec("timm") is not None:
        result |= {f"timm:{name}": f"timm: {name}" for name in importlib.import_module("timm").list_models()}
    if importlib.util.find_spec("transformers") is not None:
        result |= {f"hf:{name}": f"Hugging Face: {known.title}, small" for name, known in ARCHITECTURES.items()}
    return result


def _package(name: str, model: str) -> Any:
    """The optional package.

    Raises:
        CompressionError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CompressionError(
            f"{model} needs the package {name}",
            f"{home.install('models')} (or pip install {name})",
        ) from error


@lru_cache(maxsize=256)
def timm_spec(name: str) -> ModelSpec:
    """The spec of ``timm:NAME`` (without weights).

    Raises:
        CompressionError: timm is not installed, or has no model of this name.
    """
    timm = _package("timm", name)
    short = name.partition(":")[2]
    if not timm.is_model(short):
        close = timm.list_models(f"{short.split('_')[0]}*")[:6] or timm.list_models("resnet*")[:6]
        raise CompressionError(
            f"timm has no model {short!r}; it has {len(timm.list_models())}, such as {', '.join(close)}"
        )
    known = timm.get_pretrained_cfg(short)
    size = tuple(known.input_size) if known is not None else (3, 224, 224)
    classes = (known.num_classes if known is not None else 0) or 1000
    summary = "A timm classifier; weights are yours to give."
    return ModelSpec(name, short, summary, "timm", size, classes, (), partial(_make_timm, short, size, classes))


def _make_timm(
    short: str, default: tuple[int, ...], classes: int, input: tuple[int, ...], requested: int | None
) -> nn.Module:
    timm = _package("timm", f"timm:{short}")
    options: dict[str, Any] = {"pretrained": False, "num_classes": requested or classes}
    if input[0] != default[0]:
        options["in_chans"] = input[0]
    sized = {"img_size": tuple(input[1:])} if tuple(input[1:]) != tuple(default[1:]) else {}
    model: nn.Module
    try:
        model = timm.create_model(short, **sized, **options)
    except TypeError:
        if not sized:
            raise
        model = timm.create_model(short, **options)  # architectures of any input size have no such option
    return model


@dataclass(frozen=True)
class _Architecture:
    """A transformer by the names of its classes; ``vocabulary`` > 0: it takes token ids."""

    title: str
    home: str
    model: str
    config: str
    input: tuple[int, ...]
    options: Callable[[tuple[int, ...], int], dict[str, Any]]
    vocabulary: int = 0
    classes: int = 2


def _text(input: tuple[int, ...], classes: int) -> dict[str, Any]:
    return {**SHAPE, "vocab_size": VOCABULARY, "max_position_embeddings": input[0], "num_labels": classes}


def _image(input: tuple[int, ...], classes: int) -> dict[str, Any]:
    return {**SHAPE, "image_size": input[1], "patch_size": 8, "num_channels": input[0], "num_labels": classes}


def _gpt2(input: tuple[int, ...], classes: int) -> dict[str, Any]:
    sizes = {"n_positions": input[0], "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": HEADS, "n_inner": 128}
    return {**sizes, "vocab_size": VOCABULARY, "use_cache": False, "bos_token_id": 0, "eos_token_id": 0}


def _llama(input: tuple[int, ...], classes: int) -> dict[str, Any]:
    return {**_text(input, classes), "num_key_value_heads": HEADS // 2, "use_cache": False}


def _whisper(input: tuple[int, ...], classes: int) -> dict[str, Any]:
    sizes = {"d_model": WIDTH, "encoder_layers": BLOCKS, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 128}
    return {**sizes, "num_mel_bins": input[0], "max_source_positions": input[1] // 2}


_IMAGE, _MODELS = (3, 32, 32), "transformers.models"
ARCHITECTURES: dict[str, _Architecture] = {
    "bert": _Architecture("BERT", f"{_MODELS}.bert.modeling_bert", "BertForSequenceClassification", "BertConfig",
                          (LENGTH,), _text, VOCABULARY),
    "vit": _Architecture("ViT", f"{_MODELS}.vit.modeling_vit", "ViTForImageClassification", "ViTConfig",
                         _IMAGE, _image, classes=10),
    "gpt2": _Architecture("GPT-2", f"{_MODELS}.gpt2.modeling_gpt2", "GPT2LMHeadModel", "GPT2Config",
                          (LENGTH,), _gpt2, VOCABULARY, VOCABULARY),
    "llama": _Architecture("Llama, grouped-query attention", f"{_MODELS}.llama.modeling_llama", "LlamaForCausalLM",
                           "LlamaConfig", (LENGTH,), _llama, VOCABULARY, VOCABULARY),
    "whisper-encoder": _Architecture("Whisper encoder", f"{_MODELS}.whisper.modeling_whisper", "WhisperEncoder",
                                     "WhisperConfig", (16, 32), _whisper, classes=WIDTH),
    "clip-vision": _Architecture("CLIP vision tower", f"{_MODELS}.clip.modeling_clip", "CLIPVisionModel",
                                 "CLIPVisionConfig", _IMAGE, _image, classes=WIDTH),
}  # fmt: skip


def hf_spec(name: str) -> ModelSpec:
    """The spec of ``hf:NAME``: a small transformer with initial weights, or a repository ``hf:OWNER/NAME``.

    Raises:
        CompressionError: transformers is not installed, or the name is none of those known here.
    """
    _package("transformers", name)
    if repository(name):
        return hub_spec(name)
    short = name.partition(":")[2]
    if short not in ARCHITECTURES:
        raise CompressionError(f"unknown model {name!r}: hf: has {', '.join(ARCHITECTURES)}, or OWNER/NAME of the Hub")
    known = ARCHITECTURES[short]
    summary = f"{BLOCKS} blocks of width {WIDTH}, built from its configuration."
    maker = partial(_make_hf, short)
    return ModelSpec(name, known.title, summary, "hf", known.input, known.classes, (), maker, known.vocabulary)


def _make_hf(short: str, input: tuple[int, ...], classes: int | None) -> nn.Module:
    known = ARCHITECTURES[short]
    if len(input) != len(known.input) or (len(input) == 3 and (input[1] != input[2] or input[1] % 8)):
        size = "x".join(map(str, known.input))
        raise CompressionError(f"hf:{short} takes inputs like {size}, not {'x'.join(map(str, input))}")
    if classes not in (None, known.classes) and short not in ("bert", "vit"):
        raise CompressionError(f"hf:{short} is no classifier: its outputs cannot be set to {classes} classes")
    module = importlib.import_module(known.home)
    config = getattr(_package("transformers", f"hf:{short}"), known.config)
    model: nn.Module = getattr(module, known.model)(config(**known.options(input, classes or known.classes)))
    return model
