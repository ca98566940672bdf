"""What a run accepts reaches its end: other networks are refused before the first step, with the reason."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import compression as cx
from compression import data, tasks, zoo
from compression.cli import main
from compression.errors import CompressionError
from compression.export import export
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.preflight import check
from compression.runs.prepare import fp32_ledger
from compression.runs.rehearsal import check_answers
from compression.zoo import weights as weight_files

HEAD = """
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

S = (1, 28, 28)


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 8, 5, 3), nn.Conv2d(8, 8, 3, 2), nn.Linear(8, 10)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))
"""
NETWORKS = """
class Wide(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.n, self.dtype = Base().to(dtype), dtype

    def forward(self, x):
        return self.n(x.to(self.dtype)).float()


class Buffer(Base):
    def __init__(self, value):
        super().__init__()
        self.register_buffer("w", value)


class Extra(Base):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


class Half(Base):
    def forward(self, x):
        y = super().forward(x)
        return y[:, :5] if self.training else y


class Names(Base):
    def forward(self, x):
        y = super().forward(x)
        return {"out": None} if self.training else y


class NoGradient(Base):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class InPlace(Base):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


class Frozen(Base):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Looking(Base):
    def forward(self, x):
        if float(x.sum()) > 1e9:
            x = -x
        return super().forward(x.sub_(1) if self.training else x)


class Renamed(Base):
    def load_state_dict(self, *args, **kwargs):
        raise RuntimeError("not here")


class Draws(Base):
    def forward(self, x):
        y = super().forward(x)
        return y + torch.randn_like(y)


def masked():
    model = Base()
    prune.l1_unstructured(model.b, "weight", 0.3)
    return model


def normed(function):
    model = Base()
    function(model.b)
    return model


MADE = {
    "double": lambda: Wide(torch.float64), "half": lambda: Wide(torch.float16), "brain": lambda: Wide(torch.bfloat16),
    "complex": lambda: Buffer(torch.ones(2, dtype=torch.complex64)), "sparse": lambda: Buffer(torch.eye(3).to_sparse()),
    "float8": lambda: Buffer(torch.ones(2).to(torch.float8_e4m3fn)),
    "extra": Extra, "other_shape": Half, "names": Names, "no_gradient": NoGradient, "in_place": InPlace,
    "frozen": Frozen, "renamed": Renamed, "looking": Looking, "draws": Draws, "masked": masked,
    "old_weight_norm": lambda: normed(weight_norm), "new_weight_norm": lambda: normed(parametrizations.weight_norm),
}
for _name, _make in MADE.items():
    globals()[_name] = lambda make=_make: (make(), S)
"""
REFUSED = {
    "double": "float64", "half": "float16", "brain": "bfloat16",
    "complex": "w (in the model's state|is no plain tensor)",
    "sparse": "w (in the model's state|is no plain tensor)", "float8": "w in the model's state",
    "extra": "_extra_state in the model's state",
    "other_shape": r"in training, not \(2, 5\)", "names": "with a tensor, not with dict", "no_gradient": "no gradient",
    "in_place": "in place", "frozen": "no gradient", "looking": "in place", "draws": "draws random numbers",
    "renamed": "not here",
    "masked": "prune.remove", "old_weight_norm": "remove_weight_norm", "new_weight_norm": "remove_parametrizations",
}  # fmt: skip
UNTRAINABLE = ["complex", "sparse", "float8", "extra", "other_shape", "names", "no_gradient", "in_place", "looking"]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the networks, and the weights of those that have plain ones."""
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(HEAD + NETWORKS)
    return path


def budget(path: Path, name: str, **changes: Any) -> cx.Budget:
    """A budget for one of the networks, from weights of its own."""
    model, weights = f"{path}:{name}", path.with_name(f"{name}.pt")
    torch.save(zoo.build(model, seed=1).state_dict(), weights)
    return cx.Budget(model=model, weights=str(weights), epochs=0.3, precision="fp32", sparsity=0.4, **changes)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_a_run_cannot_carry_through_is_refused_at_its_start(
    nets: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "extra":  # a weights file holds tensors alone
        monkeypatch.setattr(weight_files, "load", lambda model, path: {})
    with pytest.raises(CompressionError, match=REFUSED[name]) as refused:
        check(budget(nets, name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", UNTRAINABLE)
def test_nor_is_it_trained(nets: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = [
        "train",
        "--model",
        f"{nets}:{name}",
        "--data",
        "mnist5k",
        "--epochs",
        "50",
        "--out",
        str(tmp_path / "w.safetensors"),
    ]
    assert main(line) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert not (tmp_path / "w.safetensors").exists()


ACCEPTED = '''
class Tied(Base):
    def __init__(self):
        super().__init__()
        self.d, self.e = nn.Linear(10, 10), nn.Linear(10, 10)
        self.e.weight = self.d.weight

    def forward(self, x):
        return self.e(torch.relu(self.d(super().forward(x))))


class Auxiliary(Base):
    """As torchvision's GoogLeNet: more than the logits in training."""

    def forward(self, x):
        y = super().forward(x)
        return (y, y.detach()) if self.training else y


class Counting(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return super().forward(x)


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.LazyConv2d(8, 5, 3), nn.LazyConv2d(8, 3, 2), nn.LazyLinear(10)

    forward = Base.forward


class Deciding(Base):
    def forward(self, x):
        return super().forward(x if float(x.abs().sum()) >= 0 else -x)


class Alias(Base):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.again = self.b


class Keeping(Base):
    """Keeps features of its last pass, with their gradient history."""

    def forward(self, x):
        self.last = super().forward(x)
        return self.last * 1


class Volume(Base):
    """Weights of rank 5, and of rank 3."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 8, (1, 5, 5), 3), nn.Conv1d(8, 8, 3, 2)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x[:, :, None])).flatten(2))).mean(2))


class Doubled(nn.Module):
    def forward(self, w):
        return w * 2


class Quoted(Base):
    def __init__(self):
        super().__init__()
        self.m = nn.ModuleDict({'a"\\\\': nn.Linear(10, 10)})

    def forward(self, x):
        return self.m['a"\\\\'](super().forward(x))


def doubled():
    model = Base()
    model.n = nn.BatchNorm2d(8)
    model.a = nn.Sequential(model.a, model.n)
    nn.utils.parametrize.register_parametrization(model.n, "weight", Doubled())
    return model, S


def alias():
    return Alias(), S


def keeping():
    return Keeping(), S


def volume():
    return Volume(), S


def quoted():
    return Quoted(), S


def tied():
    return Tied(), S


def auxiliary():
    return Auxiliary(), S


def counting():
    return Counting(), S


def lazy():
    return Lazy(), S


def deciding():
    return Deciding(), S


def compiled():
    return torch.compile(nn.DataParallel(Base()), backend="eager"), S
'''
PROGRAMS = {"deciding": False, "quoted": False}


@pytest.mark.parametrize(
    "name",
    [
        "tied",
        "auxiliary",
        "counting",
        "lazy",
        "deciding",
        "compiled",
        "alias",
        "keeping",
        "volume",
        "doubled",
        "quoted",
    ],
)
def test_what_is_accepted_is_trained_packed_exported_and_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "nets.py"
    path.write_text(HEAD + ACCEPTED)
    requested = budget(path, name, method="opq")
    check(requested)
    folder = RunFolder.create(tmp_path / "runs", {"id": "run", "budget": requested.to_dict(), "created": 0.0})
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    bundle = export(folder, tmp_path / "b.zip", onnx=False)
    assert ("model.pt2" in bundle.files) == PROGRAMS.get(name, True)
    assert ("model.pt2" in bundle.measured["left_out"]) != PROGRAMS.get(name, True)
    dense = zoo.build(requested.model)
    model = cx.load(tmp_path / "b.zip", model=dense)
    stored = load_file(folder.bundle / "model.safetensors")
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[key]), key


def test_what_onnx_and_torch_cannot_express_is_left_out_with_words(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "nets.py"
    path.write_text(HEAD + ACCEPTED)
    folder = RunFolder.create(
        tmp_path / "runs", {"id": "run", "budget": budget(path, "deciding", method="opq").to_dict(), "created": 0.0}
    )
    assert carry_out(folder, execute) == "done"
    out = str(tmp_path / "b.zip")
    assert main(["export", "run", "--runs", str(tmp_path / "runs"), "--out", out]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    left_out = [line for line in printed.out.splitlines() if line.strip().startswith("without ")]
    assert [[name in line for name in ("model.pt2:", "ONNX")] for line in left_out] == [[True, False], [False, True]]
    from compression.export.reader import read_files

    files = read_files(out)
    assert "Without model.pt2: " in files["MODEL_CARD.md"].decode()
    assert not any(name.endswith((".onnx", ".pt2")) for name in files)
    with pytest.raises(CompressionError, match=r"holds no model\.pt2"):
        cx.load(out, trust=True)


def test_checking_changes_nothing_and_draws_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 3)
    ).train()
    model[1].eval()
    before, random = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    inputs = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    check_answers(model, inputs, tasks.task_of(data.load("mnist5k")), 3)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_of_a_wrapped_network_fit_the_network_inside(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(3, 3))
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    weight_files.save(nn.DataParallel(model), tmp_path / "w.safetensors", {})
    weight_files.load(twin, tmp_path / "w.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), twin.parameters(), strict=True))


def test_tied_weights_are_saved_under_both_names_and_counted_once(tmp_path: Path) -> None:
    one, two = nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False)
    two.weight = one.weight
    model = nn.Sequential(one, two)
    weight_files.save(model, tmp_path / "w.safetensors", {})
    saved = load_file(tmp_path / "w.safetensors")
    assert torch.equal(saved["0.weight"], saved["1.weight"])
    ledger = fp32_ledger(model)
    assert ledger["values"] == 50 * 50 * 4
    assert ledger["total"] == fp32_ledger(nn.Sequential(nn.Linear(50, 50, bias=False)))["total"]
