# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg pack``: a training's output as a bundle by MONAI's specification."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

import monai_stochseg
from monai_stochseg.bundle.copies import bundles_folder
from monai_stochseg.bundle.exports import check_formats, example_size, write_exports
from monai_stochseg.bundle.inference_config import dumps, packed_inference
from monai_stochseg.bundle.metadata import bundle_metadata, size_divisor
from monai_stochseg.bundle.run_config import CONFIG_FILE, TRAINED_BY, TRAINED_ON
from monai_stochseg.bundle.split import SPLIT_FILE
from monai_stochseg.data import CaseError
from monai_stochseg.handlers.case_table import SUMMARY_ROWS
from monai_stochseg.handlers.load_weights import load_state, read_checkpoint
from monai_stochseg.networks.export import SingleAnswer
from monai_stochseg.tasks import Task

__all__ = ["pack"]

_MODEL = "$@bundle_root + '/models/model.pt'"


def pack(output_dir: str, to: str, dataset_dir: str = "data", formats: Sequence[str] = ()) -> str:
    """
    Make a bundle by MONAI's specification of the output of a training.

    It has ``configs`` (``metadata.json``, ``train.json``, ``evaluate.json``, ``inference.json``, ``logging.conf``),
    ``models/model.pt`` (the weights of the best checkpoint, a state dictionary), ``docs/README.md`` (what it is, and
    the figures of the evaluation where there is one) and ``LICENSE``; and, where asked, the network as a function of
    image and noise, see :py:func:`monai_stochseg.networks.export.exportable`.

    The configurations stand alone, with the ids of the training but for its output and its data, so that they name no
    patient; a path that was given under another id stays in them. In ``inference.json`` the network gives the logits of
    its single answer, so that MONAI's tools can run it. An evaluation judges all cases of its folder.

    Args:
        output_dir: of the training: it holds ``config.json`` and ``model_best.pt``.
        to: the folder to make.
        dataset_dir: default of the data's folder in the configurations; a run gives ``--dataset_dir``.
        formats: of ``ts`` (TorchScript, ``models/model.ts``), ``onnx`` (``models/model.onnx``) and ``pt2``
            (``torch.export``, ``models/model.pt2``).

    Returns:
        The folder's path.

    Raises:
        FileNotFoundError: if the output has no configuration or no best checkpoint.
        FileExistsError: if the folder is there already.
        ExportError: if a format is unknown, or the network cannot be written in it.
        ImportError: if a package that a format needs is not installed.
        CaseError: if another version of this package trained it.

    """
    check_formats(formats)
    output, target = Path(output_dir).expanduser(), Path(to).expanduser().absolute()
    if target.exists():
        raise FileExistsError(f"to: {target} is there already; move it away, or give another folder.")
    config_file = output / CONFIG_FILE
    if not config_file.is_file():
        raise FileNotFoundError(f"output_dir: there is no {config_file}; it is written by a training of a bundle.")
    checkpoint = read_checkpoint(output / "model_best.pt")
    config = _read(config_file)
    versions, data = config.pop(TRAINED_BY, {}), config.pop(TRAINED_ON, {})
    _check_version(versions.get("monai_stochseg"), config_file)
    name = _bundle_name(config)
    source = bundles_folder() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pack.") as temporary:
        folder = Path(temporary, target.name)
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir(parents=True)
        configs = _configs(config, dataset_dir)
        task, network = _parts(configs["inference.json"], folder, checkpoint)
        own = _read(source.parent / "metadata.json") | _read(source / "metadata.json")
        metadata = bundle_metadata(own, task, network, checkpoint, versions)
        if isinstance(network, SingleAnswer):  # which MONAI's ckpt_export scripts
            size = example_size(size_divisor(network, task.in_channels, task.spatial_dims), task.spatial_dims)
            configs["inference.json"]["network_def"]["input_shape"] = [1, task.in_channels, *size]
        if formats:
            sampled = network.network if isinstance(network, SingleAnswer) else network
            metadata |= write_exports(sampled, task, metadata, folder / "models", formats)
        for file, content in {**configs, "metadata.json": metadata}.items():
            (folder / "configs" / file).write_text(dumps(content), encoding="utf-8")
        shutil.copy(source / "logging.conf", folder / "configs")
        torch.save(checkpoint["network"], folder / "models" / "model.pt")
        card = _card(name, metadata, checkpoint, output, versions.get("commit"), data.get("simulated"))
        (folder / "docs" / "README.md").write_text(card, encoding="utf-8")
        (folder / "LICENSE").write_text(_license(), encoding="utf-8")
        folder.rename(target)
    return str(target)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _check_version(found: str | None, config_file: Path) -> None:
    """A packed bundle runs with the installed version, which may give its ids another meaning than that of training."""
    current = monai_stochseg.__version__
    if found != current:
        cure = "train again" if found is None else f"install monai_stochseg {found} to pack it, or train again"
        raise CaseError(
            f"output_dir: {config_file} is of monai_stochseg {found or 'before 0.1.0'}, and this is {current}: {cure}."
        )


def _bundle_name(config: Mapping[str, Any]) -> str:
    """The bundle that was trained, by the expression of its root."""
    found = re.search(r"find_bundle\('(\w+)'\)", str(config.get("bundle_root")))
    if found is None:
        raise FileNotFoundError(f"{CONFIG_FILE}: bundle_root {config.get('bundle_root')!r} names no bundle.")
    return found[1]


def _configs(config: Mapping[str, Any], dataset_dir: str) -> dict[str, dict[str, Any]]:
    """Training, evaluation and inference, each by itself."""
    local = {"output_dir": "$@bundle_root + '/output'", "dataset_dir": dataset_dir, "resume": False, "checkpoint": None}
    train = {**config, **local}
    if "split_file" in config:
        train["split_file"] = "$monai_stochseg.bundle.resumed_split(@output_dir, @resume)"
    if "planned" in config:
        train |= {"planned": None}
        train.pop("plan", None)
    overlay = _read(bundles_folder() / "evaluate.json")
    overlay.pop("split_file")
    evaluate = {**train, **overlay, "part": "all", "checkpoint": _MODEL}
    return {"train.json": train, "evaluate.json": evaluate, "inference.json": packed_inference(train, _MODEL)}


def _parts(config: Mapping[str, Any], folder: Path, checkpoint: Mapping[str, Any]) -> tuple[Task, nn.Module]:
    """The task and the trained network that the packed inference runs."""
    parser = ConfigParser({**config, "bundle_root": str(folder)})
    network = parser.get_parsed_content("network_def").eval()
    load_state(network, checkpoint["network"], "model_best.pt")
    return parser.get_parsed_content("task"), network


def _card(
    name: str,
    metadata: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    output: Path,
    commit: str | None,
    simulated: bool | None,
) -> str:
    """The model card; it names no patient."""
    package = f"monai_stochseg {metadata['required_packages_version']['monai_stochseg']}"
    libraries = f"MONAI {metadata['monai_version']}, PyTorch {metadata['pytorch_version']}, numpy"
    shape = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    lines = [
        f"# {metadata['name']}",
        "",
        metadata["description"] + ".",
        "",
        f"* Trained by the bundle `{name}` of {package}{f' ({commit})' if commit else ''}, {libraries} "
        f"{metadata['numpy_version']}.",
        f"* Classes: {metadata['label_classes']}. Image: channels {metadata['image_classes']}.",
        f"* Data: {metadata['data_source']}. {_images(simulated)}{_parts_of(output)}",
        f"* Best epoch {checkpoint['epoch']}: {checkpoint['metric']} {checkpoint['value']:.4g} on the validation part.",
        "* Licence: [LICENSE](../LICENSE). The data have terms of their own.",
        "",
        "```bash",
        "python -m monai.bundle run --config_file configs/inference.json --dataset_dir /data/new",
        "python -m monai.bundle run --config_file configs/evaluate.json --dataset_dir /data/other",
        "python -m monai.bundle ckpt_export network_def --config_file configs/inference.json \\",
        "    --filepath models/answer.ts",
        "```",
        "",
        "The last one writes the single answer as TorchScript.",
        "",
        "## Limits",
        "",
        "* **Research only.** It is no medical device.",
        "* All figures here are of the data above. Nothing says how it does on those of another scanner or hospital.",
        f"* The network takes an image of `{shape[0]}` voxels along each axis, and knows no other classes.",
    ]
    for file in sorted(output.glob("evaluation_*.csv")):
        lines += _evaluation(file)
    return "\n".join(lines) + "\n"


def _images(simulated: bool | None) -> str:
    if simulated is None:
        return "It is not recorded whether the images of this training are simulated."
    return f"The images of this training are {'**simulated**' if simulated else 'real'}."


def _parts_of(output: Path) -> str:
    """How many patients each part has, where the output has a split."""
    file = output / SPLIT_FILE
    if not file.is_file():
        return ""
    return f" Patients: {', '.join(f'{len(patients)} {part}' for part, patients in _read(file).items())}."


def _evaluation(file: Path) -> list[str]:
    """The means of an evaluation's table, and of how many cases."""
    with file.open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    means = [row for row in rows if row["case"] == "mean"]
    if not means:
        return []
    cases = [row for row in rows if row["case"] not in SUMMARY_ROWS]
    lines = ["", f"## Evaluation of the part `{file.stem.removeprefix('evaluation_')}`: {len(cases)} cases", ""]
    lines += ["| metric | mean |", "| --- | --- |"]
    return lines + [f"| {key} | {value} |" for key, value in means[0].items() if key != "case"]


def _license() -> str:
    """The package's licence, in its repository or among the bundles of a wheel."""
    places = [folder / "LICENSE" for folder in (bundles_folder().parent, bundles_folder())]
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")
