"""Explanations in a separate process: ``python -m compression.jobs.explain_run RUN_DIR [--images N] [--seed S]``.

``explain/job.json`` in the run's folder holds the state; :mod:`compression.explain.stored` the format of the results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compression import devices, home
from compression.jobs.sidejob import CANCELLED, DONE, FAILED, NONE, RUNNING, Job, Report, SideJob
from compression.runs.folder import RunFolder
from compression.runs.resultfile import written

if TYPE_CHECKING:
    from compression.explain.models import Pair
    from compression.explain.stored import Shown

__all__ = ["CANCELLED", "DONE", "FAILED", "NONE", "RUNNING", "Job", "cancel", "main", "start", "status", "work"]

COMMAND = (sys.executable, "-m", home.module("compression.jobs.explain_run"))
SHOWN = 24  # images whose maps are stored: the changed ones first
SCORES = 0.85  # the share of the work that the scores are


def start(
    folder: RunFolder, images: int = 32, seed: int = 0, threads: int = 1, command: Sequence[str] = COMMAND
) -> None:
    """Begin, unless it is running already; the process outlives the page and the app.

    Raises:
        CompressionError: the run's folder cannot be written.
    """
    arguments = [str(folder.path.resolve()), "--images", str(images), "--seed", str(seed)]
    _job(folder).start([*command, *arguments], threads)


def status(folder: RunFolder) -> Job:
    """The state of this run's explanations.

    Raises:
        CompressionError: the file of the state is damaged.
    """
    return _job(folder).status()


def cancel(folder: RunFolder) -> Job:
    """Stop the job; the results of an earlier one stay.

    Raises:
        CompressionError: the file of the state is damaged.
    """
    return _job(folder).stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Explain the run in the folder named on the command line; exit status 0 when the files are there."""
    parser = argparse.ArgumentParser(prog=home.module("compression.jobs.explain_run"))
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    folder = RunFolder(given.run)
    return _job(folder).carry_out(lambda report: work(folder, given.images, given.seed, report))


def work(folder: RunFolder, images: int, seed: int, report: Report) -> Mapping[str, Any]:
    """The scores, and the maps of the first images, written into the run's folder."""
    from compression.explain.comparison import compare
    from compression.explain.models import pair
    from compression.explain.stored import save

    report("restoring both models", 0.0)
    models = pair(folder, seed).on(devices.choose())
    scored = compare(models, images, seed, say=lambda text, share: report(text, SCORES * share))
    macs = written(folder.result_path)["baseline"]["macs"]
    maps = _maps(models, macs, list(scored.scores), report)
    report("writing", 1.0)  # refused to a process whose place another has taken
    save(folder, scored, maps)
    return {"images": len(scored.images), "seed": seed}


def _maps(models: Pair, macs: float, methods: Sequence[str], report: Report) -> Shown:
    """The maps of the images that a page shows first."""
    import torch

    from compression.explain.comparison import Explainers
    from compression.explain.models import affordable, scan
    from compression.explain.stored import DENSE, SMALL, Shown

    report("images whose class changed", SCORES)
    answers = scan(models, affordable(macs))
    chosen = answers.order[:SHOWN]
    explainers, images = Explainers.from_pair(models), models.images(chosen)
    targets = torch.tensor([answers.before[i] for i in chosen]).to(models.device)
    maps = {}
    for done, method in enumerate(methods):
        report("maps of the images shown", SCORES + (1 - SCORES) * done / max(1, len(methods)))
        for key, explainer in ((DENSE, explainers.dense), (SMALL, explainers.small)):
            maps[method, key] = explainer.attribute(method, images, targets).cpu().numpy()
    return Shown(tuple(chosen), maps)


def _job(folder: RunFolder) -> SideJob:
    return SideJob("explanation", folder, folder.path / "explain" / "job.json")


if __name__ == "__main__":
    sys.exit(main())
