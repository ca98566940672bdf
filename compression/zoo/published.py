"""Weights that were published for a model: from the cache of torchvision, timm or the Hub, else downloaded there.

They are read as any other file of weights, so that nothing in them is run.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import torch

from compression import home
from compression.errors import CompressionError
from compression.zoo.hub_model import WEIGHTS, repository, tensors


class Published(NamedTuple):
    """A file of published weights, and what it is called: torchvision's name of it, or ``hub:`` and its repository.

    ``tensors``: by the names that the model has for them, where the file has others.
    """

    name: str
    path: Path
    tensors: Mapping[str, torch.Tensor] | None = None


def published(model: str) -> Published:
    """The file of the weights published for ``torchvision:NAME``, ``timm:NAME`` (the usual ones) or ``hf:OWNER/NAME``.

    Raises:
        CompressionError: there are none for this model, or they are neither in the cache nor can be downloaded.
    """
    package, _, short = model.partition(":")
    with home.optional():
        if package == "torchvision":
            return _torchvision(model, short)
        if package == "timm":
            return _timm(model, short)
        if repository(model):
            return Published(f"hub:{short}", _from_hub(model, short), tensors(model))
    raise CompressionError(
        f"weights 'pretrained' are those of torchvision:, timm: and hf:OWNER/NAME, and {model} is none of these"
    )


def _torchvision(model: str, short: str) -> Published:
    from torchvision.models import get_model_weights

    known = list(get_model_weights(short))
    if not known:
        raise CompressionError(f"torchvision has no weights for {model}")
    usual = get_model_weights(short).DEFAULT
    return Published(f"torchvision {type(usual).__name__}.{usual.name}", _from_address(model, usual.url))


def _timm(model: str, short: str) -> Published:
    timm = importlib.import_module("timm")

    known = timm.get_pretrained_cfg(short)
    if known is None or not (known.hf_hub_id or known.url):
        raise CompressionError(f"timm has no weights for {model}")
    if not known.hf_hub_id:
        return Published(f"timm {short}.{known.tag}", _from_address(model, str(known.url)))
    return Published(f"hub:{known.hf_hub_id}", _from_hub(model, known.hf_hub_id))


def _from_address(model: str, address: str) -> Path:
    """The file of this address in the cache of torch.hub."""
    from torch import hub

    path = Path(hub.get_dir()) / "checkpoints" / Path(urlsplit(address).path).name
    if path.is_file():
        return path
    digest = hub.HASH_REGEX.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(address, str(path), digest and digest[1], progress=False)
    except (OSError, RuntimeError) as error:  # no network, no space; another file than it should be
        raise _missing(model, address, path, error) from error
    return path


def _from_hub(model: str, source: str) -> Path:
    """The safetensors of this repository in the cache of huggingface_hub."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    try:
        return Path(hf_hub_download(source, WEIGHTS, local_files_only=True))
    except EntryNotFoundError:  # not there yet
        pass
    try:
        return Path(hf_hub_download(source, WEIGHTS))
    except (EntryNotFoundError, HTTPError, OSError) as error:
        raise _missing(model, source, Path(constants.HF_HUB_CACHE), error) from error


def _missing(model: str, source: str, place: Path, error: Exception) -> CompressionError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CompressionError(
        f"the published weights of {model} are not in {place} and cannot be downloaded from {source} ({line})",
        "put the file there, or name one: --weights FILE",
    )
