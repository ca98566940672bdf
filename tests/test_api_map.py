"""The pages in docs/: the modules, functions, paths and tests they name exist, as do the equations the code cites."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP, DERIVATIONS = ROOT / "docs" / "ARCHITECTURE.md", ROOT / "docs" / "derivations"
FEWEST = {
    MAP: 30,
    DERIVATIONS / "geta-joint-step.md": 30,
    DERIVATIONS / "opq.md": 30,
    DERIVATIONS / "cc.md": 7,
    DERIVATIONS / "bsq.md": 14,
}
PAGES = tuple(FEWEST)
FILE_KINDS = ("json", "jsonl", "layered", "md", "packed", "txt")


def names(page: Path) -> list[str]:
    """What stands in backticks and is a path, a test or a dotted name, each once and in order."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    dotted = re.compile(r"[a-z_]\w*(\.\w+)+")
    candidates = [text for text in quoted if ("/" in text and " " not in text) or dotted.fullmatch(text)]
    return list(dict.fromkeys(text for text in candidates if "/" in text or text.rpartition(".")[2] not in FILE_KINDS))


def exists(name: str) -> bool:
    """Whether a path (``a/b.py``), a test (``tests/x.py::test_y``) or a name below ``compression`` exists."""
    if "/" in name or (ROOT / name).exists():
        path, _, test = name.partition("::")
        return (ROOT / path).exists() and (not test or f"def {test}(" in (ROOT / path).read_text())
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(["compression", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page: Path) -> None:
    named = names(page)
    assert len(named) > FEWEST[page]
    assert [name for name in named if not exists(name)] == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    assert exists("counting.cost.cost") and exists("runs.store.Store.add") and exists("compression/quant")
    assert exists("tests/test_api_map.py::test_what_a_page_names_exists")
    wrong = ("counting.cost.costs", "runs.store.Store.nothing", "nowhere.at_all", "compression/nowhere.py")
    assert not any(map(exists, (*wrong, "tests/test_api_map.py::test_that_is_missing")))


def test_every_cited_equation_is_on_its_page_and_the_other_way_round() -> None:
    tags = [re.findall(r"\\tag\{([BCGO]\d+)\}", page.read_text()) for page in PAGES[1:]]
    assert tags == [
        [f"G{n}" for n in range(1, 17)],
        [f"O{n}" for n in range(1, 18)],
        [f"C{n}" for n in range(1, 7)],
        [f"B{n}" for n in range(1, 11)],
    ]
    cited: set[str] = set()
    for path in (ROOT / "compression").rglob("*.py"):
        for citation in re.findall(r"eq\. ((?:[BCGO]\d+(?:, | and | to )?)+)", path.read_text()):
            cited |= set(re.findall(r"[BCGO]\d+", citation))
    assert cited <= {tag for page in tags for tag in page}
    assert cited >= {
        *(f"G{n}" for n in range(3, 17)),
        "O1",
        "O12",
        "O13",
        "O14",
        "O15",
        "C1",
        "C2",
        "C3",
        "C4",
        "C5",
        "C6",
        *(f"B{n}" for n in range(1, 11)),
    }


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "assets" / "gallery" / "README.md"]
    assert len(pages) >= 7
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert os.path.exists(page.parent / target), f"{page.relative_to(ROOT)}: {target}"
