"""The command line: what each command answers, its JSON, its exit status, and that Ctrl-C leaves nothing running."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compression import methods, runs
from compression.asks import OPTIONS, WEIGHTS, Ask, Sparsity
from compression.budget import Budget
from compression.cli import COMMANDS, main, parser
from compression.cli.budget import ask_value
from compression.cli.options import sizes
from compression.cli.output import size, table
from compression.cli.progress import RunProgress
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject
from compression.graph import Code
from compression.points import Point
from tests.waiting import until

SUBJECT = ("--model", "resnet8", "--data", "mnist5k")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    from compression import zoo
    from compression.zoo import weights as files

    return str(files.save(zoo.build("resnet8"), tmp_path / "initial.safetensors", {}))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """The JSON that a command writes to standard output, which must hold nothing else."""
    assert main([*arguments, "--json", "-"]) == status
    return json.loads(capsys.readouterr().out)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "compression", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_values_of_options_mean_what_they_say() -> None:
    assert [ask_value("--bits", text) for text in ("4:8", "4", "3.5")] == [(4, 8), 4, 3.5]
    assert sizes("3x32x32") == (3, 32, 32)
    assert (size(81_904), size(999), size(2_500_000)) == ("81.9 kB", "999 B", "2.5 MB")
    assert table(("a", "b"), [("x", 1), ("yy", 10)]).splitlines() == ["a    b", "x    1", "yy  10"]


def test_help_and_bad_arguments_do_not_import_torch() -> None:
    code = """
        import contextlib, io, sys
        from compression.cli import main
        commands = "--help", "run --help", "run --bits x", "run --seed 1.5", "nonsense", "runs --runs absent"
        for arguments in map(str.split, commands):
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                main(arguments)
        assert "torch" not in sys.modules and "numpy" not in sys.modules
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment(), capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


def test_every_field_of_a_budget_is_an_option_and_help_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    fields = Budget.model_fields.keys() - {"version", "asks", "groups", "layers", "options"}
    options = {f"--{name.replace('_', '-')}" for name in fields}
    for name in ("run", "sweep", "forecast", "untrained"):
        arguments = parser()[name].assemble_argument_collection()
        words = {name: each.parameter for each in arguments for name in each.names if name.startswith("--")}
        assert options <= words.keys()
        assert all(parameter.help or parameter.choices for parameter in words.values())
        assert main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(option in shown for option in (*options, *OPTIONS))
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_options_may_be_abbreviated_and_repeated_and_preprocess_takes_several_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (budget,) = started(monkeypatch, "run", *SUBJECT, *"--epoch 9 --epochs=3 --activ 6 --optim=adam --lr-q 0.1".split())
    assert (budget.epochs, budget.optimizer, budget.asks) == (3, "adam", {"activation_bits": (6, 6), "lr_quant": 0.1})
    words = "--preprocess mean=0.5 std=0.25,0.5,1 --option preset=paper --preprocess resize=28 --option distill=2"
    (budget,) = started(monkeypatch, "run", *SUBJECT, *words.split())
    assert budget.preprocess == {"mean": 0.5, "std": [0.25, 0.5, 1], "resize": 28}
    assert budget.options == {"preset": "paper", "distill": 2}
    assert main(["run", *SUBJECT, "--lr-s"]) == 2
    assert "--lr-schedule" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class Rank(Ask):
    """What somebody else's method may ask."""

    field: str = "rank"
    default: int = 1
    help: str = "rank of the factors"
    option: str = "--rank"

    def accept(self, value: Any) -> int:
        if not isinstance(value, int) or value < 1:
            raise CompressionError(f"rank must be a whole number of at least 1, not {value!r}")
        return value


class Factors(methods.Method):
    """A method of somebody else, as far as commands need one before a run."""

    info = methods.Info("factors", "Factors", "Replaces weights by factors.", "low-rank", 99)
    asks = (Sparsity(target=WEIGHTS), Rank())

    def __init__(self) -> None:
        self.budgets: list[Budget] = []

    def run(self, setup: methods.Setup, report: methods.Reporter) -> methods.Compressed:
        raise AssertionError("commands start a worker, and here none is")

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        self.budgets.append(budget)
        return Forecast.unknown("known after a run")

    def allocation(self, subject: Subject, budget: Budget) -> Any:
        self.budgets.append(budget)
        return methods.get("ptq").allocation(subject, budget)


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> Factors:
    method, known = Factors(), methods.all_methods()
    monkeypatch.setattr(methods, "all_methods", lambda: {**known, "factors": method})
    return method


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Budget]:
    """The budgets that ``run`` or ``sweep`` would start."""
    budgets: list[Budget] = []

    def sweep(budget: Budget, *, root: str, priority: int, device: str, gpus: int, **values: Any) -> str:
        budgets.extend(runs.combinations(budget, **values))
        return "sweep"

    def start(budget: Budget, root: str, **more: Any) -> str:
        budgets.append(budget)
        return "run"

    monkeypatch.setattr(runs, "sweep", sweep)
    monkeypatch.setattr(runs, "start", start)
    monkeypatch.setattr("compression.cli.run.follow", lambda *_: 0)
    assert main(arguments) == 0
    return budgets


def test_an_option_that_only_a_method_of_somebody_else_has_is_taken_from_its_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, factors: Factors
) -> None:
    chosen = ["--method", "factors"]
    assert answer(capsys, "forecast", *SUBJECT, *chosen, "--rank", "8")["certainty"] == "unknown"
    assert answer(capsys, "allocate", "resnet8", *chosen, "--rank", "3", "--sparsity", "0")["model"] == "resnet8"
    assert [budget.asks["rank"] for budget in factors.budgets] == [8, 3]
    (budget,) = started(monkeypatch, "run", *SUBJECT, *chosen, "--rank=5", "--sparsity", "0.25")
    assert budget.asks == {"rank": 5, "sparsity": 0.25}
    budgets = started(monkeypatch, "sweep", *SUBJECT, *chosen, "--rank", "2,4", "--sparsity", "0.1,0.3")
    assert [(each.asks["sparsity"], each.asks["rank"]) for each in budgets] == [(0.1, 2), (0.1, 4), (0.3, 2), (0.3, 4)]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("run --method factors --rank 0", ["rank", "at least 1"]),
        ("run --method factors --rank many", ["rank", "'many'"]),
        ("sweep --method factors --rank 2,2", ["twice"]),
        ("run --method factors --depth 2", ["--depth", "factors has: --sparsity, --rank"]),
        ("sweep --method opq --rank 2,3", ["--rank", "opq has: --sparsity, --bits"]),
        (
            "forecast --rank 2",
            ["--rank", "geta has: --sparsity, --macs, --bops, --bits, --activation-bits"],
        ),
    ],
)
def test_an_option_that_the_method_does_not_have_is_refused_with_those_it_has(
    words: str, parts: list[str], capsys: pytest.CaptureFixture[str], factors: Factors
) -> None:
    assert main([*words.split(), *SUBJECT]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert all(part in line for part in parts), line
    assert not factors.budgets


def test_allocate_refuses_options_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["allocate", "resnet8", "--epochs", "3"]) == 2
    assert "--epochs" in capsys.readouterr().err


def test_a_sweep_goes_over_every_value_of_any_ask(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--method ptq --bits 4 --activation-bits 4,8".split()
    result = answer(capsys, "sweep", *SUBJECT, *words)
    widths = [{width["activation"] for width in run["final"]["bits"].values()} - {None} for run in result["runs"]]
    assert sorted(map(sorted, widths)) == [[4], [8]]
    spec = json.loads(Path("runs", result["run"], "spec.json").read_text())
    assert spec["values"] == {"sparsity": [], "bits": [4], "--activation-bits": [4, 8]}


def test_models_lists_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    value = {model["name"]: model for model in answer(capsys, "models")}
    assert value["resnet20"]["params"] == 272_474
    assert value["resnet8"]["params"] == 19_810
    assert value["vgg7"]["macs"] == 608_053_248
    assert "mnist5k" in value["resnet8"]["data"]


def test_graph_answers_with_groups_and_says_which_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, weights: str
) -> None:
    value = answer(capsys, "graph", "resnet20", "--dot", str(tmp_path / "graph.dot"))
    assert (value["model"], value["weights"], value["input"]) == ("resnet20", "random", [3, 32, 32])
    assert sum(group["prunable"] for group in value["groups"]) == 12
    assert sum(group["units"] for group in value["groups"] if group["prunable"]) == 448
    assert set(value["groups"][0]) >= {"id", "units", "prunable", "reason", "exact", "ties", "parameters"}
    text = (tmp_path / "graph.dot").read_text()
    assert text.count(" -> ") == len(value["edges"])
    assert text.count(" [label=") == len(value["nodes"])
    assert answer(capsys, "graph", "resnet8", "--weights", weights)["weights"] == weights
    assert answer(capsys, "graph", "resnet8", "--input", "3x16x16", "--classes", "7")["input"] == [3, 16, 16]
    assert main(["graph", "resnet8"]) == 0
    assert Code.next_to_output.value in capsys.readouterr().out


def test_allocate_answers_with_opqs_allocation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    value = answer(capsys, "allocate", "resnet20", "--sparsity", "0.7", "--bits", "4")
    assert value["weights"] == "random"
    assert value["pruned"] == round(0.7 * value["numel"]) == sum(layer["pruned"] for layer in value["layers"])
    assert value["value_bits"] <= value["budget_bits"]
    assert set(value["layers"][0]) >= {"name", "numel", "pruned", "threshold", "bits", "step", "error"}
    budget = {"version": 1, "method": "opq", "sparsity": 0.5, "layers": {"conv1": {"weight_bits": [8, 8]}}}
    (tmp_path / "budget.json").write_text(json.dumps(budget))
    bound = answer(capsys, "allocate", "resnet20", "--config", str(tmp_path / "budget.json"))
    assert (bound["layers"][0]["name"], bound["layers"][0]["bits"], bound["sparsity"]) == ("conv1", 8, 0.5)


@pytest.mark.parametrize(("option", "column"), [("grid=survivor", "offset"), ("codebook=channel", "scales")])
def test_what_else_a_layer_stores_has_a_column(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, column: str
) -> None:
    words = ["allocate", "resnet8", "--sparsity", "0.5", "--bits", "4"]
    assert main(words) == 0
    plain = capsys.readouterr().out
    assert "offset" not in plain
    assert "scales" not in plain
    file = tmp_path / "answer.json"
    assert main([*words, "--option", option, "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    layer = json.loads(file.read_text())["layers"][0]
    head, row = (next(line.split() for line in lines if line.startswith(name)) for name in ("layer", layer["name"]))
    expected = layer[column] if column == "offset" else len(layer[column])
    assert head[-1] == column
    assert float(row[-1]) == pytest.approx(expected, abs=1e-6)


def test_train_stores_weights_where_run_looks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from compression.zoo.weights import find, read_provenance

    value = answer(capsys, "train", "--model", "resnet8", "--data", "mnist5k", "--epochs", "0.1", "--seed", "3")
    path = find("resnet8", "mnist5k", (1, 28, 28), 10)
    assert str(path) == value["weights"]
    assert path is not None
    assert read_provenance(path)["seed"] == 3
    assert 0 <= value["test_accuracy"] <= 1
    assert value["command"].startswith("python -m compression train --model ")
    out = tmp_path / "here.safetensors"
    assert main(["train", "--model", "resnet8", "--data", "mnist5k", "--epochs", "0.02", "--out", str(out)]) == 0
    assert out.is_file()
    assert "weights:" in capsys.readouterr().out


def test_run_waits_and_writes_the_result_and_the_others_read_it(
    capsys: pytest.CaptureFixture[str], weights: str, tmp_path: Path
) -> None:
    options = (
        "--model resnet8 --data mnist5k --method opq --sparsity 0.5 --bits 4 --epochs 0.1 --precision fp32".split()
    )
    run = subprocess.run(
        command("run", *options, "--weights", weights, "--json", "-"), env=environment(), capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")  # nothing noisy in a pipe
    result = json.loads(run.stdout)
    assert result["status"] == "done"
    assert result["final"]["bytes"] == result["ledger"]["total"]
    assert result["equality"] <= 1e-5
    assert answer(capsys, "show", result["run"]) == result
    listed = answer(capsys, "runs")
    assert [(entry["run"], entry["status"]) for entry in listed] == [(result["run"], "done")]
    assert listed[0]["final"] == result["final"]
    assert answer(capsys, "cancel", result["run"]) == {"run": result["run"], "status": "done"}
    assert main(["show", result["run"]]) == 0
    assert "packed file" in capsys.readouterr().out
    assert main(["runs"]) == 0
    assert result["run"] in capsys.readouterr().out
    assert Path("runs", result["run"], "bundle", "model.safetensors").is_file()


def test_ctrl_c_cancels_the_run_and_a_detached_sweep_waits_for_the_slot(
    capsys: pytest.CaptureFixture[str], weights: str
) -> None:
    options = ["--model", "resnet8", "--data", "mnist5k", "--method", "opq", "--weights", weights, "--epochs", "500"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background may be deaf to Ctrl-C
    run = subprocess.Popen(
        command("run", *options), env=environment(), stdout=-1, stderr=-1, text=True, preexec_fn=heard
    )
    try:
        until(lambda: any(path.stat().st_size for path in Path("runs").glob("opq-*/events.jsonl")))
        sweep = answer(capsys, "sweep", *options, "--sparsity", "0.3,0.5", "--bits", "3,4", "--detach")
        assert sweep["status"] == "queued"
        assert len(runs.RunFolder.open("runs", sweep["run"]).children()) == 4
        assert answer(capsys, "cancel", sweep["run"])["status"] == "cancelled"
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 1
    assert errors.splitlines()[-1].startswith("error: run opq-resnet8-")
    assert "was cancelled" in errors
    assert "Traceback" not in errors + output
    states = {entry["id"]: entry["state"] for entry in answer(capsys, "runs")}
    assert set(states.values()) == {"cancelled"}
    assert len(states) == 6


def event(kind: str, **fields: Any) -> str:
    return json.dumps({"v": 1, "t": 0.0, "attempt": 1, "kind": kind, "step": 0, "epoch": 0.0, **fields}) + "\n"


def test_the_progress_of_a_run_is_its_share_and_where_it_is(tmp_path: Path) -> None:
    folder = runs.RunFolder.create(tmp_path, {"id": "one", "budget": Budget().to_dict(), "created": 0.0})
    progress = RunProgress()
    assert progress.line(folder) == ("queued", None)
    folder.events_path.write_text(event("plan", total_steps=200) + event("phase", phase="joint"))
    assert progress.line(folder) == ("joint  step 0 of 200", 0.0)
    with folder.events_path.open("a") as stream:
        point = Point(60, 1.0, "joint", "validation", 0.97, 0.1, 1e3, "packed", 1e3, 1e6, 1e7, 0.05, 0.5, 0.6, {})
        stream.write(event("step", step=50, loss=0.2) + event("point", **point.to_dict()))
        stream.write(event("step", step=100, loss=0.1))
    assert progress.line(folder) == ("joint  step 100 of 200  accuracy 97.0 %", 0.5)


def test_a_terminal_shows_a_bar_that_is_removed_and_a_pipe_nothing() -> None:
    code = """
        from compression.cli.progress import progress_bar
        with progress_bar() as show:
            show("step 1 of 2 [x]", 0.5)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    piped = subprocess.run(words, env={**environment(), "FORCE_COLOR": "1"}, capture_output=True, text=True)
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "", "")
    master, slave = pty.openpty()
    assert subprocess.run(words, env={**environment(), "TERM": "xterm"}, stdout=slave, stderr=slave).returncode == 0
    os.close(slave)
    drawn = os.read(master, 10_000).decode()
    assert "50%" in drawn
    assert "step 1 of 2 [x]" in drawn
    assert drawn.endswith(("\x1b[2K", "\x1b[2K\r"))  # the line is cleared


def test_json_to_a_device_writes_to_it_and_leaves_it_a_device(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert main(["runs", "--json", str(pipe)]) == 0
    assert json.loads(reader.communicate(timeout=20)[0]) == []
    assert pipe.is_fifo()
