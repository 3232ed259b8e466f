# SPDX-License-Identifier: Apache-2.0
"""
One training step of each method, as its bundle makes it, in the ways that a GPU runs it.

The same tests run on a CPU, where there is a counterpart, and with the marker ``gpu`` on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
import torch
import torch.distributed as dist
from ignite import distributed as idist
from monai.bundle import ConfigParser
from torch import nn

from monai_stochseg.benchmark import Method, find_methods
from monai_stochseg.data import simulated_brain_folder

# cuBLAS reads it once, when its first handle is made; without it nothing that uses it is deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

TASKS = ("lidc", "brats")
TRAINED = {task: {m.trained.name: m.trained for m in find_methods(task)} for task in TASKS}
TINY: Mapping[str, Any] = {"channels": [4, 8, 8], "batch_size": 4, "max_epochs": 2, "images_per_epoch": 8}
SIZES: Mapping[str, Mapping[str, Any]] = {"lidc": TINY, "brats": {**TINY, "roi_size": [16, 16, 16]}}
CONTIGUOUS = {"network": "$@network_def.to(@device)"}
AMPLIFIED = 0.05  # what batch norm over few voxels and ReLU make of rounding in float32; found: 0.007
NOT_DETERMINISTIC = "does not have a deterministic implementation"

CUDA = "cuda:0"
DEVICES = ["cpu", pytest.param(CUDA, marks=pytest.mark.gpu)]
on_each_device = pytest.mark.parametrize("device", DEVICES)
# The networks of the brains differ from the slices' by their dimension alone: one of them is asked each time.
of_each_method = pytest.mark.parametrize(
    ("task", "name"),
    [
        pytest.param(task, name, marks=[pytest.mark.matrix] if task == "brats" and name != "ssn" else [])
        for task in TASKS
        for name in TRAINED[task]
    ],
)


class Step(NamedTuple):
    """What a step leaves: the loss, all gradients and weights in a row, and the network."""

    loss: torch.Tensor
    gradients: torch.Tensor
    weights: torch.Tensor
    network: nn.Module


class Steps(NamedTuple):
    """Makes steps of one method on one device."""

    method: Method
    task: str
    dataset_dir: str
    folder: Path
    device: str

    def __call__(self, **ids: Any) -> Step:
        """One step from the same weights, with the same batch and noise, and other ids."""
        trainer = self.trainer(ids)
        batch = next(iter(trainer.data_loader))
        torch.manual_seed(1)
        trainer.state.iteration = 1  # in which an adversary steps too
        trainer.scaler = torch.GradScaler(self.device) if trainer.amp else None  # as MONAI's run() begins
        output = trainer._iteration(trainer, batch)
        parameters = list(trainer.network.parameters())
        gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
        assert gradients
        weights = torch.cat([p.detach().flatten() for p in parameters])
        return Step(output["loss"].detach().cpu(), torch.cat(gradients).cpu(), weights.cpu(), trainer.network)

    def trainer(self, ids: Mapping[str, Any]) -> Any:
        """The bundle's own trainer, which is not run: of its handlers nothing is asked."""
        parser = ConfigParser()
        parser.read_config([str(file) for file in self.method.files(self.task)])
        parser.read_meta({})
        given = {**SIZES[self.task], **self.method.ids, "dataset_dir": self.dataset_dir, "device": self.device}
        places = {"bundle_root": str(self.method.folder), "output_dir": str(self.folder)}
        torch.manual_seed(0)
        parser.update({**given, **places, **ids})
        return parser.get_parsed_content("train#trainer")


@pytest.fixture(scope="module", autouse=True)
def _mlflow(tmp_path_factory) -> Iterator[None]:
    """One database for all: MLflow takes seconds to make its tables."""
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlruns.db'}"
        mlflow.MlflowClient(uri).search_experiments()
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield


@pytest.fixture(scope="module")
def brains(tmp_path_factory) -> str:
    return simulated_brain_folder(tmp_path_factory.mktemp("brats") / "brains", 8, (16, 16, 16))


@pytest.fixture
def steps(task, name, device, crops_folder, brains, tmp_path, monkeypatch) -> Steps:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # else "equal" means to three digits
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    folders = {"lidc": str(crops_folder), "brats": brains}
    return Steps(TRAINED[task][name], task, folders[task], tmp_path, device)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The norm of the difference as a share of the first's."""
    return float((one - other).norm() / one.norm())


@contextmanager
def autocast_there(device: str) -> Iterator[None]:
    """MONAI's trainer asks for autocast of a GPU by name: on a CPU it gets that of the CPU."""
    if device == CUDA:
        yield
        return
    real = torch.autocast
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "autocast", lambda _, **kwargs: real("cpu", **kwargs))
        yield


@contextmanager
def one_rank(device: str, store: Path) -> Iterator[None]:
    """A group of this process alone."""
    backend = "nccl" if device == CUDA else "gloo"
    dist.init_process_group(backend, init_method=store.as_uri(), rank=0, world_size=1)
    try:
        yield
    finally:
        idist.finalize()  # ignite remembers the group
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def deterministic(warn_only: bool = False) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@on_each_device
@of_each_method
def test_bfloat16(steps, device) -> None:
    """Rounding to three digits in each layer, and batch norm over few voxels: the gradient's direction stays."""
    plain = steps(**{"options#amp": False})
    with autocast_there(device):
        half = steps(**{"options#amp": True})
    assert all(x.isfinite().all() for x in half[:3])
    assert half.gradients.dtype == half.weights.dtype == torch.float32
    assert difference(plain.gradients, half.gradients) > 1e-4  # it did run in bfloat16
    assert difference(plain.loss, half.loss) < 0.02
    assert torch.cosine_similarity(plain.gradients, half.gradients, dim=0) > 0.8


@on_each_device
@of_each_method
def test_channels_last(steps, monkeypatch) -> None:
    """Dropout is off: it draws in the order of the memory, and so drops other features of the same number."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    last, contiguous = steps(), steps(**CONTIGUOUS)
    kernel = next(p for p in last.network.parameters() if p.dim() > 3 and p.shape[1] > 1 and p.shape[2] > 1)
    assert not kernel.is_contiguous()
    assert difference(contiguous.loss, last.loss) < 1e-4
    assert difference(contiguous.gradients, last.gradients) < AMPLIFIED


@pytest.mark.gpu
@pytest.mark.parametrize("device", [CUDA])
@of_each_method
def test_cudnn_benchmark(steps, monkeypatch) -> None:
    plain = steps()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    fastest = steps()
    assert difference(plain.loss, fastest.loss) < 1e-4
    assert difference(plain.gradients, fastest.gradients) < AMPLIFIED


@on_each_device
@of_each_method
def test_one_rank(steps, device, tmp_path) -> None:
    """nccl on a GPU, gloo on a CPU."""
    plain = steps()
    with one_rank(device, tmp_path / "store"):
        alone = steps()
    assert isinstance(alone.network, nn.parallel.DistributedDataParallel)
    assert difference(plain.loss, alone.loss) < 1e-5
    assert difference(plain.gradients, alone.gradients) < 1e-4
    assert difference(plain.weights, alone.weights) < 1e-4


@on_each_device
@of_each_method
def test_determinism(steps) -> None:
    """
    Two runs from one seed give the same bits.

    On a GPU some operations have no such form, by PyTorch's documentation: among ours the cross entropy of maps
    (``nll_loss2d``), the cumulative sum of floats, ``MaxUnpool`` and the backward pass of ``AvgPool3d``. Where one is
    met, the runs need agree to some hundredths only, and the test is an expected failure that names the operation.
    """
    try:
        with deterministic():
            one, other = weights_and_samples(steps), weights_and_samples(steps)
    except RuntimeError as error:
        operation, found, _ = str(error).partition(NOT_DETERMINISTIC)
        if not found:
            raise
        with deterministic(warn_only=True):
            one, other = weights_and_samples(steps), weights_and_samples(steps)
        assert all(difference(a, b) < AMPLIFIED for a, b in zip(one, other, strict=True))
        pytest.xfail(f"{operation.strip()}: no deterministic form on this device")
    same = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    assert same == [True, True]


def weights_and_samples(steps: Steps) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights after a step, and two samples of its network."""
    trained = steps()
    image = next(iter(steps.trainer({}).data_loader))["image"].as_tensor().to(steps.device)
    with torch.no_grad():
        predictive = trained.network.eval().predictive(image)
        samples = predictive.sample_logits(2, torch.Generator(steps.device).manual_seed(0))
    return trained.weights, samples.cpu()
