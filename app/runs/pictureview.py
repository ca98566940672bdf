"""What a run's network answers, as a picture beside the truth: at every measured point, during the run and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from PIL import Image

from app import widgets, words
from app.runs import runlog
from compression import data as datasets
from compression.data.types import PICTURE
from compression.errors import CompressionError
from compression.plots import run_view
from compression.reading import read_bytes
from compression.report.pictures import ORIGINAL, TRUTHS, last

TITLES = {PICTURE: "The picture"}


def section(now: run_view.RunView) -> None:
    """Nothing for a run whose task has no picture."""
    folder = runlog.folder(now.run).pictures
    points = [point for point in (*now.points, now.final) if point is not None]
    shown = {int(point["step"]): point for point in points if (folder / f"{point['step']}.png").is_file()}
    if not shown or not (folder / ORIGINAL).is_file():
        return
    title, truth = _words(now.run)
    st.subheader(title, anchor=False)
    steps = sorted(shown)
    step = steps[-1]
    if not now.active and len(steps) > 1:
        step = st.select_slider("After step", steps, steps[-1], key=f"picture_step {now.run}")
    point = shown[step]
    left, right = st.columns(2, gap="medium")
    with left:
        _image(folder / ORIGINAL, truth)
    with right:
        score = now.metric.show(point["score"])
        kind = " (estimated)" if point.get("bytes_kind") == "estimated" else ""
        _image(folder / f"{step}.png", f"After step {step:,}: {score}, {words.size(point['bytes'])}{kind}")
    beside(now.run)


def compare(runs: Sequence[tuple[str, str]]) -> None:
    """The original and what each run (title, id) made of it; nothing where none of them left a picture."""
    ends = [(title, path) for title, run in runs if (path := last(runlog.folder(run))) is not None]
    originals = [path.parent / ORIGINAL for _, path in ends]
    if not originals or not originals[0].is_file():
        return
    title, truth = _words(runs[0][1])
    st.subheader(title, anchor=False)
    shown = [(truth, originals[0]), *ends]
    for column, (title, path) in zip(st.columns(len(shown), gap="medium"), shown, strict=True):
        with column:
            _image(path, title)


def _words(run: str) -> tuple[str, str]:
    """The title of this section for the task of a run, and what the truth is called."""
    task = datasets.task(runlog.folder(run).budget().data)
    return TITLES.get(task, "Some answers"), TRUTHS.get(task, "The truth")


def beside(run: str) -> None:
    """What other codecs make of the same picture in as many bytes."""
    codecs = (runlog.outcome(run) or {}).get("beside") or {}
    if "bits_per_pixel" not in codecs:
        return
    parts = [
        f"{name} reaches {other['psnr']:.1f} dB in {words.size(other['bytes'])}"
        if (other := codecs.get(name))
        else f"{name} has no file that small"
        for name in ("JPEG", "WEBP")
    ]
    rate = f"{codecs['bits_per_pixel']:.2f} bits a pixel"
    st.caption(f"{rate}. For comparison, with at most as many bytes: {'; '.join(parts)}.")


def _image(path: Path, caption: str) -> None:
    try:
        st.image(read_bytes(path, "picture"), caption=caption, width="stretch")
    except CompressionError as error:
        widgets.problem(error)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # as Pillow says that it is no picture
        widgets.problem(CompressionError(f"picture {path.name} of this run is damaged: it cannot be shown"))
