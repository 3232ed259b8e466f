# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import logging
import os
import platform

import torch
import torch.distributed as dist
from monai.apps.utils import DEFAULT_FMT
from monai.data import image_writer
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from monai_stochseg.bundle.errors import explain_errors
from monai_stochseg.bundle.heartbeat import Heartbeat, start_heartbeat
from monai_stochseg.bundle.overrides import check_overrides

_heartbeat: Heartbeat | None = None  # of the process group, which PyTorch keeps one a process
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>


def select_device() -> torch.device:
    """The GPU of this process (``LOCAL_RANK`` under torchrun) where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether a device is a GPU that computes in bfloat16, and does not emulate it."""
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def process_rank() -> int:
    """Rank of this process under torchrun, before the process group exists; 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def is_distributed() -> bool:
    """Whether torchrun started several processes."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def start_run(device: torch.device | str, seed: int = 0) -> None:
    """
    Settings of the process before anything is built.

    The last line of an uncaught error says what is wrong, and overrides that MONAI would accept in silence are refused.
    MONAI's writer of files logs in the format of all other lines.
    On a GPU: cudnn's benchmark mode. On a CPU: glibc keeps freed memory, since the page faults of giving it back and
    getting it again are up to half of a training step on volumes. Under torchrun: the process group, nccl on GPUs and
    gloo on CPUs, and only the first process logs more than warnings. PyTorch's global generator is seeded.

    Args:
        device: where networks run.
        seed: of PyTorch's global generator.
    """
    explain_errors(_which_is_gone)
    check_overrides()
    for handler in image_writer.logger.handlers:
        handler.setFormatter(logging.Formatter(DEFAULT_FMT))
    start_process(device)
    torch.manual_seed(seed)


def check_device(device: torch.device | str) -> torch.device:
    """
    The device of a name.

    Args:
        device: such as ``cpu`` or ``cuda:0``.

    Raises:
        ValueError: when there is no such device; names those that there are.
    """
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or (found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"device {str(device)!r} is not there: this machine has {', '.join(there)}.")
    return found


def start_process(device: torch.device | str) -> None:
    """
    The part of :py:func:`start_run` that concerns device, memory and the process group. Where one of several processes
    is gone, the others end, with a line that says which.

    Args:
        device: where networks run.
    """
    device = check_device(device)
    if process_rank() > 0:
        logging.getLogger().setLevel(logging.WARNING)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    elif platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    if is_distributed() and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        global _heartbeat
        _heartbeat = start_heartbeat()
        explain_errors(_which_is_gone)


def _which_is_gone(error: BaseException) -> str | None:
    """Which process's end an uncaught error comes from, where it is that of another one."""
    return None if _heartbeat is None else _heartbeat.explain(error)


def end_run() -> None:
    """Leave the process group that :py:func:`start_run` made."""
    global _heartbeat
    if _heartbeat is not None:
        _heartbeat.stop()
        _heartbeat = None
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def prepare_network(network: nn.Module, device: torch.device | str) -> nn.Module:
    """
    The network on its device, with channels last, and under torchrun as DistributedDataParallel; batch norm then shares
    its statistics on GPUs.

    Args:
        network: any module.
        device: where it trains.
    """
    device = torch.device(device)
    network = network.to(device)
    network = convert_conv2d_weight_memory_format(network, torch.channels_last)
    network = convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    if dist.is_available() and dist.is_initialized():
        if device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
    return network
