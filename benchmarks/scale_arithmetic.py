# SPDX-License-Identifier: Apache-2.0
"""
What the papers' full settings need on 1, 8 and 64 GPUs: the tables of docs/scale.md.

``python benchmarks/scale_arithmetic.py [--bundles ssn_lidc probunet_lidc]`` makes each bundle's network and loss by its
``train.json`` and ``paper.json``, runs one image forward through both on the CPU, and counts the bytes that autograd
keeps for the backward pass. No data are needed. The assumptions stand in docs/scale.md.
"""

from __future__ import annotations

import argparse
import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
GPUS = (1, 8, 64)
# Of each task: axes, channels of the image, classes, raters (or modes) a case, void label.
_LIDC, _BRATS, _STREETS = (2, 1, 2, 4, None), (3, 4, 4, 1, 255), (2, 3, 24, 32, 255)
PAPERS = {
    "ssn_lidc": _LIDC,
    "ssn_brats": _BRATS,
    "probunet_lidc": _LIDC,
    "phiseg_lidc": _LIDC,
    "hprobunet_lidc": _LIDC,
    "mose_lidc": _LIDC,
    "mose_cityscapes": _STREETS,
}
FLOAT, MIB = 4, 2**20


@dataclass(frozen=True)
class Cost:
    """
    What a method takes; bytes unless said otherwise.

    Args:
        parameters: number of them.
        activations: what the network keeps for one image.
        loss: what the loss keeps for one image.
        samples: logits of the loss's samples of one image.
        couplings: costs between samples and raters of one image, and the plan.
        batch: images a step in the paper.
        rate: the paper's learning rate.
        epochs: the paper's.
        images: an epoch; None: each case once.
    """

    parameters: int
    activations: int
    loss: int
    samples: int
    couplings: int
    batch: int
    rate: float
    epochs: int
    images: int | None

    @property
    def state(self) -> int:
        """Weights, gradients and Adam's two moments."""
        return 4 * FLOAT * self.parameters

    def a_gpu(self, batch: int) -> int:
        """Bytes of state and of a batch of so many images."""
        return self.state + batch * (self.activations + self.loss)

    def gradients(self, gpus: int) -> float:
        """Bytes that each GPU sends, and receives, a step: a ring's all-reduce."""
        return 2 * (gpus - 1) / gpus * FLOAT * self.parameters


@dataclass(frozen=True)
class Plan:
    """
    The paper's batch on some GPUs.

    Args:
        each: ``batch_size``, images a step of each process.
        total: images a step of all.
        rate: the learning rate, by the linear rule where the batch must be larger than the paper's.
        steps: an epoch.
    """

    each: int
    total: int
    rate: float
    steps: int


def plan(cost: Cost, gpus: int) -> Plan:
    """The least batch that is no smaller than the paper's and the same in each process."""
    each = math.ceil(cost.batch / gpus)
    total = each * gpus
    images = cost.images or 1000
    return Plan(each, total, cost.rate * total / cost.batch, math.ceil(math.ceil(images / gpus) / each))


class Kept:
    """Counts the bytes of what autograd keeps within it, each storage once and parameters not."""

    def __init__(self, network: nn.Module, *inputs: torch.Tensor) -> None:
        self._seen = {x.untyped_storage().data_ptr(): x for x in (*network.parameters(), *network.buffers(), *inputs)}
        self.bytes = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda x: x)

    def _pack(self, x: torch.Tensor) -> torch.Tensor:
        place = x.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen[place] = x  # alive, so that no other tensor takes its place
            self.bytes += x.untyped_storage().nbytes()
        return x

    def __enter__(self) -> Kept:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


def measure(bundle: str) -> Cost:
    """One image of the paper's size through network and loss."""
    axes, channels, classes, raters, void = PAPERS[bundle]
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / name) for name in ("train.json", "paper.json")])
    parser.read_meta({})
    attributes = {"spatial_dims": axes, "in_channels": channels, "num_classes": classes, "ignore_index": void}
    parser.update({"task": f"$__import__('types').SimpleNamespace(**{attributes})", "device": "cpu"})
    get = parser.get_parsed_content
    network, loss = get("network_def").train(), get("loss")
    torch.manual_seed(0)
    size = tuple(get("crop_size" if axes == 2 else "patch_size"))
    patches = get("patches_per_image") if axes == 3 else 1
    number = 2 if axes == 2 else 1  # batch norm needs two where the deepest map is one voxel
    image = torch.randn(number, channels, *size)
    with_label = "y" in inspect.signature(network.forward).parameters
    label = torch.randint(classes, (number, raters, *size))
    with Kept(network, image, label) as kept:
        output = network(image, label) if with_label else network(image)
    if isinstance(output, torch.Tensor):
        label = label[(..., *(slice(n) for n in output.shape[2:]))]  # a valid convolution answers on less
    voxels = math.prod(label.shape[2:])
    with Kept(network, image, label) as kept_by_loss:
        loss(output, label)
    samples = getattr(loss, "num_samples", 1) if bundle.startswith("ssn") else _number(output)
    return Cost(
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        activations=patches * kept.bytes // number,
        loss=patches * kept_by_loss.bytes // number,
        samples=patches * FLOAT * samples * classes * voxels,
        couplings=patches * 2 * FLOAT * samples * raters,
        batch=get("batch_size"),
        rate=get("learning_rate"),
        epochs=get("max_epochs"),
        images=get("images_per_epoch"),
    )


def _number(output: Any) -> int:
    """Samples of an image within a network's output: 1 but for experts."""
    logits = getattr(output, "logits", None)
    return logits.shape[1] if isinstance(logits, torch.Tensor) and type(output).__name__ == "ExpertSamples" else 1


def memory_table(costs: dict[str, Cost]) -> list[str]:
    """One row a bundle: what an image, and the paper's whole batch on one GPU, take."""
    rows = [
        "| setting | parameters | activations | loss | samples | couplings | weights, gradients, Adam | batch "
        "| one GPU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, cost in costs.items():
        each = f"{cost.activations / MIB:.1f} MiB | {cost.loss / MIB:.1f} MiB | {cost.samples / MIB:.2f} MiB"
        whole = f"{cost.state / MIB:.0f} MiB | {cost.batch} | {cost.a_gpu(cost.batch) / 2**30:.2f} GiB"
        rows.append(f"| `{name}` | {cost.parameters:,} | {each} | {cost.couplings} B | {whole} |")
    return rows


def scale_table(costs: dict[str, Cost]) -> list[str]:
    """One row a bundle and number of GPUs."""
    rows = [
        "| setting | GPUs | `batch_size` | images a step | `learning_rate` | steps an epoch | memory a GPU "
        "| gradients a step |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, cost in costs.items():
        for gpus in GPUS:
            own = plan(cost, gpus)
            steps = f"{own.steps}" if cost.images else f"{own.steps} a 1000"
            numbers = f"{own.each} | {own.total} | {own.rate:.3g} | {steps} | {cost.a_gpu(own.each) / 2**30:.2f} GiB"
            rows.append(f"| `{name}` | {gpus} | {numbers} | {cost.gradients(gpus) / MIB:.1f} MiB |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="+", default=list(PAPERS), choices=list(PAPERS))
    costs = {name: measure(name) for name in parser.parse_args().bundles}
    print("\n".join([*memory_table(costs), "", *scale_table(costs)]))


if __name__ == "__main__":
    main()
