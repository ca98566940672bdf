"""The stages of a run as a timeline: which are over, which one goes on, which come; gone once the run is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from compression import methods
from compression.errors import CompressionError
from compression.plots import theme
from compression.plots.base import RunStage
from compression.plots.run_view import RunView

OVER, GOING, COMING, FAILED, STOPPED = "over", "going", "coming", "failed", "stopped"
WIDTHS = (1, 6)
_ICONS = {COMING: ":material/radio_button_unchecked:", STOPPED: ":material/stop_circle:"}
_STATES: dict[str, Literal["complete", "running", "error"]] = {OVER: "complete", GOING: "running", FAILED: "error"}
_FIRST = "Data, trace of the network, score of the dense model."
_LAST = "The model is packed into its file, read back, and measured on test data."


@dataclass(frozen=True)
class Step:
    """A step of the timeline: ``state`` is one of the names above, ``explained`` what it does or how long it is."""

    label: str
    state: str
    explained: str


def steps(now: RunView) -> list[Step]:
    """Preparing, the stages as they began and as they are planned, and the result.

    Before there is a plan, the stages are the method's own. Of a run that stopped, the last
    step is the one where it did.
    """
    begun, ahead = (*now.stages,), (*now.ahead,) or _usual(now)
    if now.total_steps is not None and not (begun or ahead):
        begun = (RunStage("compression", 0, now.total_steps, now.method),)  # of a method that names no stages
    finishing = bool(now.total_steps) and not ahead and now.step >= (now.total_steps or 0)
    reached = 0 if now.total_steps is None else len(begun) + finishing
    labelled = [
        ("Preparing", _FIRST),
        *((theme.stage(stage.name, now.method).label, _length(stage, now.unit)) for stage in (*begun, *ahead)),
        ("Result", _LAST),
    ]
    at = {"running": GOING, "queued": COMING, "failed": FAILED, "lost": FAILED}.get(now.state, STOPPED)
    states = [OVER if place < reached else at if place == reached else COMING for place in range(len(labelled))]
    shown = len(labelled) if at in (GOING, COMING) else reached + 1
    return [Step(label, state, text) for (label, text), state in zip(labelled, states, strict=True)][:shown]


def _usual(now: RunView) -> Sequence[RunStage]:
    """The stages that the method names, of a run without a plan; their lengths are not known."""
    if now.total_steps is not None or now.stages:
        return ()
    try:
        named = methods.get(now.method).info.stages
    except CompressionError:
        return ()
    return [RunStage(stage.name, 0, 0, now.method) for stage in named]


def _length(stage: RunStage, unit: str) -> str:
    if stage.end <= stage.start:
        return f"How many {unit} it takes is planned first."
    return f"{unit.capitalize()} {stage.start:,.0f} to {stage.end:,.0f}."


def beside(now: RunView) -> DeltaGenerator:
    """Draw the timeline of a run that is not done; returns the room to the right of it.

    A step says more when it is opened.
    """
    left, right = st.columns(WIDTHS, gap="medium")
    with left:
        for step in steps(now):
            if step.state in _STATES:
                part: DeltaGenerator = st.status(step.label, state=_STATES[step.state], type="step")
            else:
                part = st.expander(step.label, icon=_ICONS[step.state], type="step")
            part.caption(step.explained)
    return right
