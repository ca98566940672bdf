"""Where formulas and terms come from: papers by their arXiv number, and derivations of the project by their name.

Texts name them as ``arXiv 2502.16638`` and ``derivation opq, O1 to O5``; the pages turn both into links.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "derivations"
PAPER = re.compile(r"\barXiv (\d{4}\.\d{5})\b")
DERIVATION = re.compile(r"\bderivation ([a-z][a-z-]*[a-z])\b")
VIEW = "learn?view=derivations&derivation="
TITLES = {
    "1308.3432": "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
    "1510.00149": "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization "
    "and Huffman Coding",
    "1911.05248": "What Do Compressed Deep Neural Networks Forget?",
    "2002.11082": "Optimal Gradient Quantization Condition for Communication-Efficient Distributed Training",
    "2006.09661": "Implicit Neural Representations with Periodic Activation Functions",
    "2007.10463": "Differentiable Joint Pruning and Quantization for Hardware Efficiency",
    "2105.11228": "Towards Compact CNNs via Collaborative Compression",
    "2112.04267": "Implicit Neural Representations for Image Compression",
    "2201.11113": "Post-training Quantization for Neural Networks with Provable Guarantees",
    "2205.11141": "OPQ: Compressing Deep Neural Networks with One-shot Pruning-Quantization",
    "2210.17323": "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
    "2303.03106": "Rotation Invariant Quantization for Model Compression",
    "2402.04012": "Quantized Approximately Orthogonal Recurrent Neural Networks",
    "2502.16638": "Automatic Joint Structured Pruning and Quantization for Efficient Neural Network Training "
    "and Compression",
}
"""The papers of the lessons: arXiv number → title."""


def linked(text: str, titles: bool = False) -> str:
    """A source with links (Markdown): a paper to arXiv, after its title where ``titles``; a derivation to its page."""

    def paper(match: re.Match[str]) -> str:
        title = f"*{TITLES[match[1]]}*, " if titles else ""
        return f"{title}[{match[0]}](https://arxiv.org/abs/{match[1]})"

    return DERIVATION.sub(rf"[our derivation]({VIEW}\1)", PAPER.sub(paper, text))


def derivations() -> dict[str, str]:
    """The derivations there are: name → title."""
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for path in _files()}


def derivation(name: str) -> str:
    """A derivation as Markdown, with small headings, in which each displayed formula stands on lines of its own."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8").partition("\n")[2]
    small = re.sub(r"^##", "####", text, flags=re.MULTILINE)
    own_lines = re.sub(r"^\$\$(.+)\$\$$", r"$$\n\1\n$$", small, flags=re.MULTILINE)
    return re.sub(r"\]\(([a-z-]+)\.md\)", rf"]({VIEW}\1)", own_lines)


def _files() -> list[Path]:
    return sorted(FOLDER.glob("*.md"))
