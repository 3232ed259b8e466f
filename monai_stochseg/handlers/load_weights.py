# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["WeightsLoader", "check_signature", "load_state", "load_weights", "read_checkpoint"]

PathLike = str | os.PathLike[str]

_CURE = "copy it again from where it was made, or give another checkpoint"


def read_checkpoint(path: PathLike) -> dict[str, Any]:
    """
    Read a checkpoint to the CPU with ``weights_only=True``, after a comparison with its checksums, which ``torch.load``
    leaves out: one wrong byte would be a wrong weight.

    Args:
        path: a file written by ``torch.save`` that holds a dictionary.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not a checkpoint, or damaged.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint at {path}: train first, or give the path of a trained model.")
    try:
        damaged = _damaged_entry(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # a damaged pickle raises whatever it happens to be read as
        raise ValueError(
            f"{path} is not a checkpoint that torch.load(weights_only=True) can read, or a part of it is missing "
            f"({str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__}): {_CURE}."
        ) from e
    if damaged is not None:
        raise ValueError(f"{path} is damaged, the checksum of its entry {damaged} is wrong: {_CURE}.")
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, a checkpoint is a dictionary.")
    return checkpoint


def _damaged_entry(path: PathLike) -> str | None:
    """The first entry whose checksum is wrong; a file of torch's old format has none."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], path: PathLike) -> None:
    """
    Load a state dictionary whose every key and shape must fit, or change nothing.

    Args:
        network: the network, possibly wrapped in ``DistributedDataParallel`` or ``DataParallel``.
        state: the state dictionary of the unwrapped network.
        path: the file it came from, for the error.

    Raises:
        ValueError: when the state is that of another architecture, in one line with the first keys that differ; when a
            weight is not finite, or the state is no dictionary.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__} where the weights should be: {_CURE}.")
    if isinstance(network, (DataParallel, DistributedDataParallel)):
        network = network.module
    # an extra state (nn.Module.get_extra_state) need not be a tensor
    found = {k: tuple(getattr(v, "shape", ())) for k, v in state.items()}
    wanted = {k: tuple(getattr(v, "shape", ())) for k, v in network.state_dict().items()}
    differing = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
    if differing:
        first = "; ".join(
            f"{k}: {found.get(k, 'absent')} in the file, {wanted.get(k, 'absent')} in the network"
            for k in differing[:3]
        )
        raise ValueError(
            f"{path} was saved from another architecture than this {type(network).__name__}: {len(differing)} entries "
            f"differ, first {first}. Build the network with the arguments it was trained with."
        )
    bad = [k for k, v in state.items() if isinstance(v, torch.Tensor) and not torch.isfinite(v).all()]
    if bad:
        raise ValueError(f"{path} has weights that are not finite, {len(bad)} entries, first {bad[0]}: {_CURE}.")
    network.load_state_dict(state)


def load_weights(network: nn.Module, path: PathLike, key: str | None = "network") -> dict[str, Any]:
    """
    Load the weights of a checkpoint into a network, all of them or none.

    Args:
        network: the network, possibly wrapped in ``DistributedDataParallel`` or ``DataParallel``.
        path: a file as :class:`TrainingCheckpoint` writes it.
        key: the entry of the file that holds the weights, ``None`` when the file is a state dictionary itself; a file
            of tensors alone, as MONAI's bundles have, is one in any case.

    Returns:
        The other entries of the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not a checkpoint, has no such entry, or is that of another architecture.
    """
    checkpoint = read_checkpoint(path)
    if key is None or (checkpoint and all(isinstance(value, torch.Tensor) for value in checkpoint.values())):
        load_state(network, checkpoint, path)
        return {}
    if key not in checkpoint:
        raise ValueError(f"{path} has no entry {key!r}, but {sorted(checkpoint)[:10]}: give one of them as `key`.")
    load_state(network, checkpoint.pop(key), path)
    return checkpoint


def check_signature(found: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None, path: PathLike) -> None:
    """
    Refuse a checkpoint that was trained for something else.

    Args:
        found: the entry ``"signature"`` of the checkpoint; a file without it is taken.
        wanted: what the network is to be used for; None: anything.
        path: the file, for the error.

    Raises:
        ValueError: when an entry differs; names it and both values.
    """
    for name, value in (wanted or {}).items():
        if found and name in found and found[name] != value:
            raise ValueError(
                f"{path} was trained for another task: {name} is {found[name]} there, and {value} here. Give the "
                "checkpoint of this task, or the task that it was trained for."
            )


class WeightsLoader:
    """
    Handler that loads the weights of a checkpoint into a network when the run starts, see :func:`load_weights`.

    Args:
        network: the network of the engine.
        path: a file as :class:`TrainingCheckpoint` writes it.
        key: the entry of the file that holds the weights, ``None`` when the file is a state dictionary itself.
        signature: what the network is to be used for, see :func:`check_signature`; None: anything.
    """

    def __init__(
        self,
        network: nn.Module,
        path: PathLike,
        key: str | None = "network",
        signature: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network
        self.path = path
        self.key = key
        self.signature = signature

    def attach(self, engine: Engine) -> None:
        """Load at ``Events.STARTED`` of ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load now."""
        if self.signature:
            check_signature(read_checkpoint(self.path).get("signature"), self.signature, self.path)
        load_weights(self.network, self.path, self.key)
        engine.logger.info(f"Loaded the weights of {self.path}")
