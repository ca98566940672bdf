"""SST-2, sentences of film reviews with their sentiment, as token ids of ``minilm``'s vocabulary.

A sentence becomes :data:`SENTENCE` ids: ``[CLS]``, its word pieces, ``[SEP]``, and :data:`PADDING` up to the end, by
which a model recognizes what to ignore. Longer sentences are truncated. ``dev.tsv`` is the validation split: all of
``train.tsv`` is used for training.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from compression.data.catalogue import INSTALL_TEXT, PADDING, SENTENCE, SST2_FILES, TEXT_PACKAGE, local_file
from compression.data.splits import shuffled
from compression.data.types import TEXT, DataSet, Split
from compression.errors import CompressionError

CLASSES = ("negative", "positive")


def load_sst2() -> DataSet:
    """The three files of COMPRESSION_DATA's folder ``sst2``, tokenized, each in a fixed random order.

    Raises:
        CompressionError: a file or package is missing, or a line is not a sentence, a tab and 0 or 1.
    """
    parts: dict[str, Any] = {split: shuffled(_read(_path(name))) for split, name in SST2_FILES.items()}
    return DataSet("sst2", "SST-2", CLASSES, mean=(), std=(), augment="none", kind=TEXT, scaling={}, **parts)


def package_folder() -> Path:
    """The folder of the package with the encoder's weights and its tokenizer.

    Raises:
        CompressionError: it is not installed.
    """
    return Path(str(_module(TEXT_PACKAGE).__file__)).parent / "model"


def encode(sentences: list[str]) -> torch.Tensor:
    """Token ids, int64 [N, SENTENCE], of lower-cased word pieces."""
    rows = [entry.ids for entry in _tokenizer().encode_batch(sentences)]
    return torch.tensor(rows, dtype=torch.int64).view(-1, SENTENCE)


def decode(ids: torch.Tensor) -> list[str]:
    """The sentences (lower case) of token ids [N, T]."""
    texts: list[str] = _tokenizer().decode_batch(ids.tolist())
    return texts


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    tokenizer = _module("tokenizers").Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(SENTENCE)
    tokenizer.enable_padding(length=SENTENCE, pad_id=PADDING)
    return tokenizer


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CompressionError(
            f"sentences and minilm need the package {name.replace('_', '-')}: {INSTALL_TEXT}"
        ) from error


def _path(name: str) -> Path:
    path = local_file(name)
    if path is None:
        raise CompressionError(
            f"sst2 is read from local files and {name} is not there: name the folder that holds sst2/ in "
            "COMPRESSION_DATA (train.tsv, dev.tsv and test.tsv; in each line a sentence, a tab, 0 or 1)"
        )
    return path


def _read(path: Path) -> Split:
    sentences, labels = [], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CompressionError(f"data file {path} cannot be read ({error}): replace it") from error
    for number, line in enumerate(lines, start=1):
        sentence, tab, label = line.rstrip("\r").rpartition("\t")
        if tab and label in ("0", "1"):
            sentences.append(sentence)
            labels.append(int(label))
        elif line.strip():
            raise CompressionError(f"{path}, line {number}: must be a sentence, a tab, and 0 or 1")
    if not sentences:
        raise CompressionError(f"{path} holds no sentences")
    return Split(encode(sentences), torch.tensor(labels))
