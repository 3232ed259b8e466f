# SPDX-License-Identifier: Apache-2.0
"""
``python benchmarks/readme_table.py RESULTS ...``: write the README's table of methods from results of the benchmark.

Each RESULTS is an ``--out`` folder of ``python -m monai_stochseg benchmark``. What stands in README.md between the
lines ``<!-- benchmark -->`` and ``<!-- /benchmark -->`` is replaced: for each task its title and a table, the
methods by their energy distance, the floor first, and the number of methods. A column that a result lacks is left out,
such as the time of a sample in older ones.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

BEGIN, END = "<!-- benchmark -->\n", "<!-- /benchmark -->"
FLOOR = "readers"
COLUMNS = (
    ("GED 16", ".3f"),
    ("GED 16, 95 %", ""),
    ("HM-IoU 16", ".3f"),
    ("diversity", ".3f"),
    ("Dice", ".3f"),
    ("empty share, rank correlation", ".3f"),
    ("mode frequency, error", ".3f"),
    ("ms / further sample", ".3g"),
)
NAMES = {
    FLOOR: "the floor: the readers, or the known truth, drawn",
    "ssn": "Stochastic Segmentation Network",
    "ssn_diagonal": "SSN, diagonal covariance",
    "probunet": "Probabilistic U-Net",
    "phiseg": "PHiSeg",
    "hprobunet": "Hierarchical Probabilistic U-Net",
    "flowssn": "Flow-SSN",
    "supervised_uncertainty": "supervised uncertainty",
    "mose": "Mixture of Stochastic Experts",
    "car": "calibrated adversarial refinement",
    "threshold": "uniform threshold: a null without covariance",
    "independent": "independent pixels: a null",
    "deterministic": "deterministic U-Net",
    "tta": "test-time augmentation",
    "mheads": "M-heads",
    "image2image_vae": "Image2Image VAE",
    "ensemble": "ensemble of four",
}


def table(folder: Path) -> str:
    """The title of one result, and its table."""
    with (folder / "benchmark.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [(name, form) for name, form in COLUMNS if any(row.get(name) for row in rows)]
    floor = [row for row in rows if row["method"] == FLOOR]
    methods = sorted((row for row in rows if row["method"] != FLOOR), key=lambda row: float(row["GED 16"]))
    lines = [f"**{rows[0]['setting']}**: {len(methods)} methods.", ""]
    lines += [_line(["", *(name for name, _ in columns)]), _line(["---"] * (1 + len(columns)))]
    for row in [*floor, *methods]:
        cells = [_show(row.get(name, ""), form) for name, form in columns]
        lines.append(_line([NAMES.get(row["method"], row["method"]), *cells]))
    return "\n".join(lines)


def write(readme: Path, folders: list[Path]) -> None:
    """Replace what stands between the two marks; ValueError where they are not there."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme} must hold the lines {BEGIN.strip()} and {END} once each.")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    tables = "\n\n".join(table(folder) for folder in folders)
    readme.write_text(f"{before}{BEGIN}{tables}\n{END}{after}", encoding="utf-8")


def _show(value: str, form: str) -> str:
    if value in ("", "nan"):
        return {"": "", "nan": "n/a"}[value]
    return format(float(value), form) if form else value


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[1] / "README.md", [Path(folder) for folder in sys.argv[1:]])
