"""Entry point of the app: the server's gate, and the frame around every page. Start it with ``make app`` or, installed,
``compression-explorer app``.

``streamlit run`` imports this file once for ``app``, the server, and executes it for every answer of a page.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "__init__.py").exists():  # a checkout; of what is installed it is a package, and no place for imports
    sys.path[:] = dict.fromkeys([str(ROOT), *sys.path])

import streamlit as st  # noqa: E402
from starlette.routing import Route  # noqa: E402

from app import livechart, nav, options, projector, serving, setup, state, timing, widgets  # noqa: E402
from app.gallery import tour  # noqa: E402
from app.model import firstchoice  # noqa: E402
from compression.errors import CompressionError  # noqa: E402

TITLE = "Compression Explorer"


def main() -> None:
    """Draw the frame and the chosen page; an error of the user is one line, never a traceback."""
    icon = str(nav.ROOT / "assets" / "theme" / "icon.svg")
    st.set_page_config(page_title=TITLE, page_icon=icon, layout="wide")  # before a page's own icon is fetched
    chosen = st.navigation([nav.page(name) for name in nav.PAGES], position="top")
    st.set_page_config(page_title=f"{chosen.title} · {TITLE}")
    widgets.style_page()
    firstchoice.take()
    state.sync()
    projector.style()
    try:
        with timing.logged(chosen.url_path or "start"):
            tour.draw(chosen.url_path or "start", setup.query)
            chosen.run()
    except CompressionError as error:
        widgets.problem(error)
    serving.first_page.set()


if __name__ == "__main__":
    main()
else:
    app = st.App(
        __file__,
        routes=[Route("/healthz", serving.healthy), Route(livechart.SCRIPT, livechart.script)],
        middleware=serving.middleware(options.at_start().hosts, [widgets.menu_script()]),
        lifespan=serving.started,
    )
