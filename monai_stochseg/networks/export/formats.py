# SPDX-License-Identifier: Apache-2.0
"""An exportable module as a file of TorchScript, ONNX or ``torch.export``."""

from __future__ import annotations

import inspect
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from monai.data import save_net_with_metadata
from monai.utils import optional_import
from torch import nn

from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.export.trace import check_trace

__all__ = ["ExportError", "check_onnx", "export_program", "write_onnx", "write_program", "write_torchscript"]

INPUTS = ("image", "noise")
OUTPUTS = ("probabilities", "samples", "entropy")
_DEFERRED = "prefer_deferred_runtime_asserts_over_guards"


class ExportError(ValueError):
    """A network that a format cannot hold."""


@contextmanager
def _one_line(module: nn.Module, what: str) -> Iterator[None]:
    """Any error as one line, without the exporters' warnings: of torchvision, which nothing here needs, and others."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
            yield
    except Exception as error:  # of the tracer, the exporter or the network
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        name = type(getattr(module, "network", module)).__name__
        raise ExportError(f"{name} cannot be written as {what}: {first}") from error
    finally:
        logger.setLevel(level)


def write_torchscript(
    module: SampleExport,
    path: str | os.PathLike,
    image: torch.Tensor,
    noise: torch.Tensor,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """
    Trace a module and save it as TorchScript, for any batch, number of samples and size that the network takes.

    Args:
        module: see :py:func:`exportable`.
        path: of the file.
        image: an example, ``[B, C_in, *S]``.
        noise: of the example, ``[B, N, K]``.
        metadata: kept in the file, where ``monai.data.load_net_with_metadata`` finds it.

    Raises:
        ExportError: when the network cannot be traced, or when the trace gives other answers to other voxels than the
            network: Python looked at their values.
    """
    with _one_line(module, "TorchScript"):
        # of one item: what is a constant of the network has a batch axis of 1 then, and is the same for any batch
        traced = torch.jit.trace(module, (image[:1], noise[:1]), check_trace=False)
        check_trace(traced, module, image[:1], noise[:1])
        save_net_with_metadata(
            traced, os.fspath(path), meta_values=dict(metadata or {}), include_config_vals=False, append_timestamp=False
        )


def export_program(module: SampleExport, image: torch.Tensor, noise: torch.Tensor) -> torch.export.ExportedProgram:
    """
    A module by ``torch.export``, with any batch, number of samples and size that the network takes: what
    :py:func:`write_program` and :py:func:`write_onnx` save.

    Args:
        module: see :py:func:`exportable`.
        image: an example, ``[B, C_in, *S]`` with a B of at least 2: a size of 1 would be taken for a constant.
        noise: of the example, ``[B, N, K]`` with an N of at least 2.

    Raises:
        ExportError: when the network cannot be exported.
    """
    if not module.has_program:
        name = type(module.network).__name__
        raise ExportError(f"{name} cannot be written as a program of torch.export, nor as ONNX: take the format ts.")
    auto, static = torch.export.Dim.AUTO, torch.export.Dim.STATIC
    shapes = {
        "image": {axis: static if axis == 1 else auto for axis in range(image.dim())},
        "noise": {0: auto, 1: auto, 2: auto if "voxels" in module.noise_formula else static},
    }
    if _DEFERRED not in inspect.signature(torch.export.export).parameters:
        raise ExportError(
            f"torch.export of PyTorch {torch.__version__} cannot leave the sizes open: it has no {_DEFERRED}. Install "
            "a newer one (2.13 has it), or take the format ts."
        )
    with _one_line(module, "a program of torch.export"):
        return torch.export.export(
            module,
            (image, noise),
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def write_program(
    program: torch.export.ExportedProgram, path: str | os.PathLike, metadata: Mapping[str, Any] | None = None
) -> None:
    """
    Save a program as ``torch.export`` does, ``*.pt2``.

    Args:
        program: see :py:func:`export_program`.
        path: of the file.
        metadata: kept in the file, as its extra file ``metadata.json``.
    """
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(metadata or {})})


def check_onnx() -> None:
    """Raise an ImportError when onnx or onnxscript is not installed."""
    for name in ("onnx", "onnxscript"):
        if not optional_import(name)[1]:
            raise ImportError(f"ONNX needs {name}: pip install 'monai_stochseg[export]'.")


def write_onnx(
    program: torch.export.ExportedProgram, path: str | os.PathLike, metadata: Mapping[str, Any] | None = None
) -> None:
    """
    Save a program as ONNX.

    Args:
        program: see :py:func:`export_program`.
        path: of the file.
        metadata: kept in the file, as the model's property ``metadata``.

    Raises:
        ImportError: when onnx or onnxscript is not installed.
        ExportError: when ONNX has no such operation.
    """
    check_onnx()
    with _one_line(program.module(), "ONNX"):
        exported = torch.onnx.export(
            program, dynamo=True, input_names=INPUTS, output_names=OUTPUTS, verbose=False, external_data=False
        )
        assert exported is not None
        exported.model.metadata_props["metadata"] = json.dumps(metadata or {})
        exported.save(os.fspath(path))
