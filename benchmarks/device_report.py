# SPDX-License-Identifier: Apache-2.0
"""What a run of benchmarks/gpu.py writes: one table and a JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

CPU_LINE = "CPU, tiny sizes: these figures say only that the script runs."
HEADER = ["| part | what | setting | measured |", "| --- | --- | --- | --- |"]


def machine(device: torch.device, sizes: str) -> dict[str, Any]:
    """Where and when, and with which versions."""
    told: dict[str, Any] = {
        "device": "CPU",
        "sizes": sizes,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        told |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
        }
    return told


class Report:
    """
    Rows, written after each of them, so that a run that is stopped leaves what it has.

    Args:
        folder: of ``gpu.json`` and ``gpu.md``.
        told: the machine.
    """

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        self.folder = folder
        self.machine = told
        self.rows: list[dict[str, Any]] = []

    def add(self, part: str, name: str, result: Mapping[str, Any]) -> None:
        """A row of a part, with its ``setting`` and ``values`` or its ``error``."""
        self.rows.append({"part": part, "name": name, "setting": "", "values": {}, "error": None, **result})
        content = {"machine": self.machine, "rows": self.rows}
        (self.folder / "gpu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (self.folder / "gpu.md").write_text(self.text() + "\n", encoding="utf-8")
        print(line(self.rows[-1]), flush=True)

    @property
    def failed(self) -> int:
        """Number of rows with an error."""
        return sum(row["error"] is not None for row in self.rows)

    def title(self) -> str:
        """The first line: on a CPU what the figures are worth, on a GPU what it is."""
        if self.machine["device"] == "CPU":
            return CPU_LINE if self.machine["sizes"] == "tiny" else "CPU: no figure is that of a GPU."
        memory = f"{self.machine['memory_bytes'] / 2**30:.0f} GiB, capability {self.machine['capability']}"
        versions = f"PyTorch {self.machine['torch']}, CUDA {self.machine['cuda']}, cuDNN {self.machine['cudnn']}"
        return f"{self.machine['device']}, {memory}, {versions}, {self.machine['sizes']} sizes, {self.machine['date']}"

    def text(self) -> str:
        return "\n".join([self.title(), "", *HEADER, *map(line, self.rows)])


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    if row["error"] is not None:
        measured = f"FAILED: {row['error']}"
    else:
        measured = ", ".join(f"{name} {show(value)}" for name, value in row["values"].items())
    cells = (row["part"], row["name"], row["setting"], measured)
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def show(value: Any) -> str:
    """Three digits of what is no whole number."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
