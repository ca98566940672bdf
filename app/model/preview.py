"""A look at the data on the Model page: the first examples of the training split with their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import plain, widgets
from app.model import catalog
from compression import data as datasets
from compression.errors import CompressionError

COUNT = 12
WIDTH = 96  # pixels on the page; small images are enlarged


@dataclass(frozen=True, eq=False)
class Examples:
    """Training examples as a page shows them: ``images`` uint8 [H, W] or [H, W, 3], or ``sentences``; and how."""

    labels: tuple[str, ...]
    how: str
    images: tuple[Any, ...] = ()
    sentences: tuple[str, ...] = ()


def examples(subject: catalog.ChosenModel, count: int) -> Examples:
    """The first ``count`` examples of the training split.

    Raises:
        CompressionError: the data cannot be had.
    """
    import torch

    catalog.quiet()
    task = catalog.load_task(subject)
    dataset, sheet = task.data, task.original()
    if sheet is not None:
        return Examples((dataset.label,), "", images=(sheet.numpy(),))
    first = dataset.train.take(torch.arange(min(count, len(dataset.train))))[0]
    if dataset.kind is datasets.PASSAGE:
        texts = tuple(bytes(passage).decode(errors="replace") for passage in first.tolist())
        after = tuple(dataset.classes[label] for label in dataset.train.labels[:count, -1].tolist())
        return Examples(after, "with the byte that follows", sentences=texts)
    labels = tuple(dataset.classes[label] for label in dataset.train.labels[:count].tolist())
    if dataset.kind is datasets.TEXT:
        from compression.data.text import decode

        how = f"as the vocabulary spells them, cut after {subject.input[0]} tokens"
        return Examples(labels, how, sentences=tuple(decode(first)))
    pixels = first.permute(0, 2, 3, 1).squeeze(3).numpy() if first.shape[1] == 1 else first.permute(0, 2, 3, 1).numpy()
    return Examples(labels, "before any augmentation", images=tuple(pixels))


def draw(subject: catalog.ChosenModel) -> None:
    """A folded row of images, or a table of sentences; loaded when it is opened."""
    if datasets.kind(subject.data) is datasets.EXAMPLE:
        return  # a task of one's own holds anything
    many, one = datasets.kind(subject.data).many, datasets.kind(subject.data).one
    with st.expander(f"Some of the {many}", type="compact", key="examples_fold", on_change="rerun") as folded:
        if not folded.open:
            return
        try:
            shown = examples(subject, COUNT)
        except CompressionError as error:
            widgets.problem(error)
            return
        if shown.sentences:
            rows = zip(shown.sentences, shown.labels, strict=True)
            widgets.table([{one: text, "label": label} for text, label in rows], "examples")
        else:
            captions = [plain.text(label) for label in shown.labels]
            st.image(list(shown.images), caption=captions, width=WIDTH if len(captions) > 1 else "content")
        if len(shown.labels) > 1:
            st.caption(f"The first {len(shown.labels)} of the training split, {shown.how}.")
