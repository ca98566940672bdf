"""Who may talk to the server: only its own names, only its own pages; and what a browser may load for a page.

A page of another site whose name resolves to this machine (DNS rebinding) sends that name as ``Host``; a page of
another site that opens a connection sends its own name as ``Origin``. Both are refused before Streamlit sees them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import ipaddress
import re
import threading
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from streamlit import cli_util, config
from streamlit.web.server import server_util

from compression import home

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERY_INTERFACE = frozenset({"", "0.0.0.0", "::"})
PRELOADED = ("compression.graph", "torchvision", "compression.training.dense", "compression.quant.tables", "timm")
IDLE_SECONDS, DELIVERY_SECONDS = 10.0, 1.0
first_page = threading.Event()
"""Set when the server has drawn a page."""
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)


def middleware(hosts: Collection[str], scripts: Collection[str]) -> list[Middleware]:
    """The gate in front of the app: ``hosts`` the operator named, ``scripts`` that pages carry inline."""
    index = Path(streamlit.__file__).parent / "static" / "index.html"
    inline = [*_INLINE_SCRIPT.findall(index.read_text(encoding="utf-8")), *scripts]
    return [Middleware(Gate, hosts=hosts, address=config.get_option("server.address") or "", policy=policy(inline))]


async def healthy(request: Request) -> PlainTextResponse:
    """What a proxy or a container asks to see whether the server answers."""
    return PlainTextResponse("ok")


def policy(scripts: Collection[str]) -> str:
    """The content policy of every page: everything from this server, inline only these ``scripts``; no frames.

    ``unsafe-eval`` and ``blob:`` stay, which let a script that is allowed compile another: Plotly does so for its WebGL
    traces, and Streamlit loads the scripts of components so.
    """
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "blob:", "'unsafe-eval'", *(f"'sha256-{digest}'" for digest in digests)]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


class Gate:
    """ASGI middleware that refuses foreign ``Host`` (421) and ``Origin`` (403) and adds the security headers.

    ``address`` is the one the server is bound to. Where it is bound to every interface, numeric addresses are accepted
    too: DNS rebinding needs a name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], address: str, policy: str) -> None:
        self.app = app
        self.named = frozenset(map(_canonical, (*hosts, address))) - EVERY_INTERFACE
        self.numeric = address in EVERY_INTERFACE
        self.headers = {
            "Content-Security-Policy": policy,
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with one line of plain text; a websocket is refused before it opens."""

        async def protected(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        refusal = None if scope["type"] == "lifespan" else self.refusal(Headers(scope=scope))
        await (refusal or self.app)(scope, receive, protected)

    def refusal(self, headers: Headers) -> PlainTextResponse | None:
        """What to answer instead; ``None`` for a request to this server from its own pages."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = _split(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self.knows(str(host.hostname)):
            return _refused(421, "this server does not answer to that name; its operator can add one with --host NAME")
        if not all(self.is_own(origin, host) for origin in origins):
            return _refused(403, "this server does not answer to pages of other sites")
        return None

    def knows(self, name: str) -> bool:
        """Whether this is a name or an address of this server."""
        name = _canonical(name)
        return name in LOOPBACK or name in self.named or (self.numeric and _is_numeric(name))

    @staticmethod
    def is_own(origin: str, host: SplitResult) -> bool:
        """Whether a page came from the address it asks: the same name (or two of this machine's) and the same port."""
        scheme, _, rest = origin.partition("://")
        source = _split(rest) if scheme in ("http", "https") else None
        usual = 443 if scheme == "https" else 80
        if source is None or (source.port or usual) != (host.port or usual):
            return False
        names = {_canonical(str(source.hostname)), _canonical(str(host.hostname))}
        return len(names) == 1 or names <= LOOPBACK


def _split(host: str) -> SplitResult | None:
    """A ``Host`` header in its parts, ``None`` for what is none."""
    if not _HOST.fullmatch(host):
        return None
    try:
        parts = urlsplit(f"//{host}")
        return parts if parts.hostname and (parts.port or 0) >= 0 else None
    except ValueError:
        return None


def _canonical(name: str) -> str:
    """A name or an address in the one spelling that is compared: small letters, no dot at the end, IPv6 shortened."""
    name = name.lower().removesuffix(".")
    return str(ipaddress.ip_address(name)) if _is_numeric(name) else name


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(status: int, line: str) -> PlainTextResponse:
    return PlainTextResponse(f"{line}\n", status_code=status)


@asynccontextmanager
async def started(app: Any) -> AsyncIterator[None]:
    """Open the app in the browser once the server is up, as ``streamlit run`` does for plain scripts."""
    threading.Thread(target=_preload, daemon=True).start()
    if not config.get_option("server.headless"):
        named = "browser.serverAddress" if config.is_manually_set("browser.serverAddress") else "server.address"
        address = server_util.get_display_address(config.get_option(named) or "localhost")
        asyncio.get_running_loop().call_soon(cli_util.open_browser, server_util.get_url(address))
    yield


def _preload() -> None:
    """Import torch and what most pages need of those that are installed, once the first page is in the browser.

    Start needs none of them, and a thread that imports while it is drawn and sent delays it; without visitors they are
    imported all the same, so that the first one can open any page.
    """
    first_page.wait(timeout=IDLE_SECONDS)
    time.sleep(DELIVERY_SECONDS)
    for module in map(home.module, PRELOADED):
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
