"""The Explain page, upper half: which method, and the two models' maps of the same images side by side."""

from __future__ import annotations

import streamlit as st

from app import nav, plain, widgets, words
from app.budget import rerun
from app.explain import explained, explainwords, similarity_view
from app.runs import runlog
from app.terms import tip
from compression.errors import CompressionError
from compression.explain import METHODS
from compression.jobs import explain_run
from compression.plots import base, tiles

OWN = "Your own"
COUNTS = {"6": 6, "12": 12, "24": 24, OWN: 0}
COLUMNS = 3
BARE = base.CONFIG | {"displayModeBar": False}


def controls(run_key: explained.Key) -> tuple[str, int]:
    """Which method, how many test images (0: a picture of one's own); its explanation a click away."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = widgets.switch(
            "Method",
            METHODS,
            "saliency",
            "attribution",
            format_func=lambda name: METHODS[name].label,
            wrap=True,
            help=tip("Five ways to ask which pixels count. They answer different questions, so look at more than one."),
        )
        count = widgets.switch("Images", COUNTS, "6", "tiles")
    _explanation(run_key, chosen)
    return chosen, COUNTS[count]


def _explanation(run_key: explained.Key, method: str) -> None:
    text = explainwords.METHODS[method]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(text.short, width="content")
        with st.popover("Formula", icon=":material/function:", type="tertiary"):
            st.latex(text.formula)
            st.markdown(text.more)
            if method == "grad_cam" and explained.cam(run_key)[0]:
                st.markdown(f"Here the layer is {explained.cam(run_key)[0]}.")
            st.caption(METHODS[method].source)
    if explained.refusal(run_key, method):
        return
    if not METHODS[method].gradient:
        st.caption(explainwords.NO_GRADIENT)
    elif explained.straight_through(run_key):
        st.info(explainwords.STRAIGHT)
    else:
        st.caption(explainwords.TRUE)


def side_by_side(run: str, run_key: explained.Key, method: str, count: int, macs: float) -> int:
    """The images whose class changed first, each with both maps; returns the place of the first in the test split."""
    answers = explained.scan(run_key, macs)
    images = tuple(answers.order[:count])
    st.subheader("Side by side", anchor=False)
    st.markdown(_found(len(answers.changed), len(answers.labels)))
    reason = explained.refusal(run_key, method)
    if reason:
        st.info(f"{METHODS[method].label} says nothing here: {reason}. The other methods do.", icon=":material/block:")
        return images[0]
    both_maps = explained.maps(run_key, method, images, macs)
    if both_maps is None:
        _not_yet(run, run_key, method)
        return images[0]
    st.caption(explainwords.signs(METHODS[method].signed))
    infos = explained.tile_infos(run_key, method, images, both_maps, macs)
    _tiles(infos, method)
    rows = [info.row for info in infos]
    widgets.table_of(rows, f"{method}-images")
    st.download_button(
        "Maps as NumPy arrays", lambda: explained.raw(infos, both_maps), file_name=f"{run}-{method}.npz",
        icon=":material/download:", key="maps", on_click="ignore", type="tertiary",
    )  # fmt: skip
    return images[0]


def _found(changed: int, looked: int) -> str:
    if not changed:
        return (
            f"Both models answer the same on all of the first {looked:,} test images. Both maps explain that answer; "
            "they can differ all the same."
        )
    return (
        f"On **{words.plural(changed, 'image')}** of the first {looked:,} test images the answer changed; these come "
        "first. Both maps explain the class that the **original** answers, so they answer one question."
    )


def _tiles(infos: list[tiles.TileInfo], method: str) -> None:
    for start in range(0, len(infos), COLUMNS):
        for column, info in zip(st.columns(COLUMNS, gap="medium"), infos[start : start + COLUMNS], strict=False):
            with column, st.container(border=True):
                st.markdown(title(info))
                st.plotly_chart(
                    plain.figure(tiles.tile_figure(info)),
                    key=f"tile {method} {info.image}",
                    config=BARE,
                    alt=info.sentence,
                )
                st.caption(f"test image {info.image} · rank correlation {info.alike:.2f}".replace("-", "−"))


def title(info: tiles.TileInfo) -> str:
    """What the two models answer, and which of them is right."""
    label, before, after = map(plain.text, (info.label, info.before, info.after))
    truth = f"it is {label}"
    if not info.changed:
        return f"both say **{before}** ({'right' if info.before == info.label else truth})"
    if info.before == info.label:
        judged = "the original was right"
    else:
        judged = "the compressed model is right" if info.after == info.label else f"both wrong, {truth}"
    return f":material/swap_horiz: **{before}** became **{after}** ({judged})"


def _not_yet(run: str, run_key: explained.Key, method: str) -> None:
    """A heavy method before the job has run."""
    if explain_run.status(runlog.workplace(run)).state == explain_run.RUNNING:
        st.caption("Being computed: see below.")
        return
    with st.container(border=True):
        times = explained.passes(run_key, method)
        st.markdown(
            f"{METHODS[method].label} takes {times} passes through the network for every image. That is computed in "
            "the background, together with the similarity below, and stored with the run."
        )
        similarity_view.start(run, "start_maps", 32, "Compute it")


def cannot(run: str, error: CompressionError) -> None:
    """Why this run cannot be explained, and the next click."""
    widgets.problem(error)
    with st.container(border=True):
        st.markdown("What this run ended with is still there; to explain it, its budget can be run again here.")
        nav.link("compare", "See the run in Compare", run=run)
        nav.link("budget", "Set up the same run", **rerun.query(rerun.of_run(run)))


def no_maps(run: str, reason: str) -> None:
    """Maps are not for this run; its answers are on another page."""
    st.info(reason, icon=":material/block:")
    nav.link("compare", "See what its answers became in Compare", run=run)
