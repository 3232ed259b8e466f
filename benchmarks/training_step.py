# SPDX-License-Identifier: Apache-2.0
"""
What a training step spends outside the network's forward and backward pass, at the bundles' default sizes.

``python benchmarks/training_step.py [--bundles ssn_brats mose_lidc] [--steps 5]`` makes the trainer of each bundle and
runs some steps on its simulated data under PyTorch's profiler. A backward function belongs to the network if the
operation it undoes ran within the network; of a refinement the discriminator is a network too.
"""

from __future__ import annotations

import argparse
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from monai_stochseg.bundle.copies import bundles_folder

BUNDLES = ("ssn_brats", "ssn_lidc", "mose_lidc", "car_lidc", "probunet_lidc")
NETWORK, STEP, BACKWARD, OPTIMIZER = "network", "step", "autograd::engine::evaluate_function", "Optimizer.step"


class Parts(NamedTuple):
    """Milliseconds a step: all, the network's two passes, the optimiser, and the share of all but the network's."""

    step: float
    forward: float
    backward: float
    optimizer: float

    @property
    def other_share(self) -> float:
        return 1 - (self.forward + self.backward) / self.step


def make_trainer(bundle: str, folder: str, ids: dict[str, Any]) -> tuple[Any, list[nn.Module]]:
    """The trainer of a bundle, and its networks."""
    root = bundles_folder() / bundle
    parser = ConfigParser()
    parser.read_config(str(root / "train.json"))
    parser.update({"bundle_root": str(root), "output_dir": str(Path(folder, "output")), "device": "cpu", **ids})
    parser.get_parsed_content("imports")
    trainer = parser.get_parsed_content("train#trainer")
    names = ["network", *(name for name in ["discriminator"] if name in parser.config)]
    return trainer, [parser.get_parsed_content(name) for name in names]


@contextmanager
def ranges(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Each call of a network is a range of the profile, named "network"."""
    opened: list[Any] = []

    def enter(*_: Any) -> None:
        opened.append(record_function(NETWORK))
        opened[-1].__enter__()

    def leave(*_: Any) -> None:
        opened.pop().__exit__(None, None, None)

    hooks = [h for n in networks for h in (n.register_forward_pre_hook(enter), n.register_forward_hook(leave))]
    yield
    for hook in hooks:
        hook.remove()


def profile_steps(trainer: Any, networks: list[nn.Module], steps: int) -> Parts:
    """Run one step, then profile ``steps`` steps."""
    batches = iter(trainer.data_loader)
    trainer.state.iteration = 1
    trainer._iteration(trainer, next(batches))
    with profile(activities=[ProfilerActivity.CPU]) as profiler, ranges(networks):
        for _ in range(steps):
            batch = next(batches)
            trainer.state.iteration += 1
            with record_function(STEP):
                trainer._iteration(trainer, batch)
    return parts_of(profiler.events(), steps)


def parts_of(events: Sequence[Any], steps: int) -> Parts:
    """What the events of ``steps`` steps say. A backward function has the sequence number of what it undoes."""
    ordered = sorted(events, key=lambda event: (event.time_range.start, -event.time_range.end))
    forward = _outermost(event for event in ordered if event.name == NETWORK)
    sequence = {event.sequence_nr for event in ordered if event.sequence_nr >= 0 and _within(event, forward)}
    backward: list[Any] = []
    for event in ordered:
        if backward and event.time_range.end <= backward[-1].time_range.end:
            sequence.add(event.sequence_nr)  # of a gradient that is differentiated itself
        elif event.name.startswith(BACKWARD) and event.sequence_nr in sequence:
            backward.append(event)
    optimizer = _outermost(event for event in ordered if event.name.startswith(OPTIMIZER))
    step = [event for event in ordered if event.name == STEP]
    return Parts(
        *(sum(e.time_range.elapsed_us() for e in part) / 1e3 / steps for part in (step, forward, backward, optimizer))
    )


def _outermost(events: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for event in events:
        if not found or event.time_range.end > found[-1].time_range.end:
            found.append(event)
    return found


def _within(event: Any, intervals: Sequence[Any]) -> bool:
    index = bisect_right(intervals, event.time_range.start, key=lambda each: each.time_range.start) - 1
    return index >= 0 and event.time_range.end <= intervals[index].time_range.end


def main(bundles: Sequence[str] = BUNDLES, steps: int = 5, ids: dict[str, Any] | None = None) -> None:
    print(f"{torch.get_num_threads()} thread(s), ms a step\n")
    print("| bundle | step | network forward | network backward | optimiser | not the network's passes |")
    print("| --- | --- | --- | --- | --- | --- |")
    for bundle in bundles:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            parts = profile_steps(*make_trainer(bundle, folder, ids or {}), steps)
        print(f"| {bundle} | {' | '.join(f'{part:.0f}' for part in parts)} | {parts.other_share:.0%} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--bundles", nargs="+", default=BUNDLES)
    parser.add_argument("--steps", type=int, default=5)
    main(**vars(parser.parse_args()))
