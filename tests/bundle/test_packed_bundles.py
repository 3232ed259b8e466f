# SPDX-License-Identifier: Apache-2.0
"""Every bundle packed: MONAI's and its Model Zoo's own checks, with their default arguments."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import NAMES, make_workflow, run_command, run_workflow
from monai.bundle import ckpt_export, create_workflow, load, verify_net_in_out
from tiny import HOME, HOME_TASK, METHODS, RUN

from monai_stochseg.__main__ import main
from monai_stochseg.bundle.metadata import size_divisor
from monai_stochseg.bundle.pack import pack
from monai_stochseg.bundle.run_config import CONFIG_FILE, TRAINED_BY
from monai_stochseg.bundle.version import package_version
from monai_stochseg.networks.export import exportable
from monai_stochseg.networks.nets import BilinearUNet

TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version")
TEXTS += ("task", "description", "authors", "copyright")
TENSOR = {
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in ("type", "format", "dtype")},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
}
FORMAT = {
    "type": "object",
    "properties": {key: {"type": "object", "additionalProperties": TENSOR} for key in ("inputs", "outputs")},
    "required": ["inputs", "outputs"],
}
#: What MONAI's schema of a bundle's metadata (meta_schema_20240725) asks for.
SCHEMA = {
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in TEXTS},
        **{key: {"type": "string"} for key in ("data_source", "data_type", "image_classes", "label_classes")},
        **{key: {"type": "string"} for key in ("pred_classes", "intended_use")},
        **{key: {"type": "object"} for key in ("changelog", "required_packages_version", "eval_metrics")},
        "references": {"type": "array", "items": {"type": "string"}},
    },
    "patternProperties": {"^[_a-zA-Z0-9]+_data_format$": FORMAT},
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
}


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def untrained_output(folder: Path, name: str, ids: dict[str, Any]) -> str:
    """What a training leaves, with the weights that the network starts with."""
    folder.mkdir()
    parser = make_workflow(name, **RUN, **ids, output_dir=str(folder)).parser
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    (folder / CONFIG_FILE).write_text(json.dumps({**config, TRAINED_BY: package_version()}))
    best = {"network": parser.get_parsed_content("network_def").state_dict(), "epoch": 2, "metric": "ged", "value": 0.5}
    torch.save({**best, "signature": parser.get_parsed_content("task").signature}, folder / "model_best.pt")
    return str(folder)


@pytest.fixture
def packed(name, folders, tmp_path) -> Path:
    ids = {**HOME[name], "dataset_dir": folders[HOME_TASK[name]]}
    return Path(pack(untrained_output(tmp_path / "output", name, ids), str(tmp_path / name)))


@pytest.mark.parametrize("name", NAMES)
def test_monai_takes_it(packed, name, folders, monkeypatch) -> None:
    monkeypatch.chdir(packed)
    metadata = read(packed / "configs" / "metadata.json")
    jsonschema.validate(metadata, SCHEMA)
    for config, kind in (("train", "train"), ("inference", "infer")):
        files = {"config_file": f"configs/{config}.json", "dataset_dir": folders[HOME_TASK[name]], "device": "cpu"}
        assert create_workflow(workflow_type=kind, logging_file=False, **files).check_properties() == []
    assert metadata["version"] in metadata["changelog"]  # the zoo's check of the directory
    verify_net_in_out("network_def", "configs/metadata.json", "configs/inference.json", device="cpu")
    network = load(name, bundle_dir=str(packed.parent), workflow_type="inference", device="cpu")
    weights = torch.load(packed / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_what_the_metadata_say(packed, name, folders) -> None:
    metadata = read(packed / "configs" / "metadata.json")
    ids = {**HOME[name], "dataset_dir": folders[HOME_TASK[name]]}
    task = make_workflow(name, **RUN, **ids, output_dir=str(packed)).parser.get_parsed_content("task")
    image = metadata["network_data_format"]["inputs"]["image"]
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert list(image["channel_def"].values()) == list(task.channel_names)
    assert list(pred["channel_def"].values()) == list(task.class_names)
    assert (image["num_channels"], pred["num_channels"]) == (task.in_channels, task.num_classes)
    assert len(image["spatial_shape"]) == len(pred["spatial_shape"]) == task.spatial_dims
    assert metadata["data_source"] == task.described.source
    assert metadata["label_classes"].startswith("0 ")
    assert metadata["eval_metrics"] == {"ged": 0.5}


@pytest.mark.parametrize(
    ("name", "use_trace"), [*((name, False) for name in NAMES), ("ssn_brats", True), ("svls_kits", True)]
)
def test_ckpt_export(packed, name, monkeypatch, use_trace) -> None:
    """The single answer, by MONAI's default, which scripts, as the zoo checks; and traced, one of each kind."""
    monkeypatch.chdir(packed)
    ckpt_export(config_file="configs/inference.json", filepath="models/answer.ts", use_trace=use_trace)
    traced = torch.jit.load("models/answer.ts")
    network = load(name, bundle_dir=str(packed.parent), workflow_type="inference", device="cpu").eval()
    metadata = read(packed / "configs" / "metadata.json")["network_data_format"]
    shape = [24] * len(metadata["inputs"]["image"]["spatial_shape"])
    image = torch.rand(2, metadata["inputs"]["image"]["num_channels"], *shape)
    with torch.no_grad():
        answer = traced(image)
        torch.testing.assert_close(answer, network(image))
    assert answer.shape == (2, metadata["outputs"]["pred"]["num_channels"], *shape)


def commands(document: Path, language: str, dataset_dir: str) -> list[list[str]]:
    """The words of MONAI's commands in the blocks of a document."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    found = "".join(re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = re.sub(r"/data/\w+", dataset_dir, found).splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("python -m monai.bundle ")]


@pytest.mark.parametrize("document", ["card", "docs/deploy.md"])
def test_the_commands_of_the_documents_run(folders, tmp_path, repository, monkeypatch, document) -> None:
    """In the packed folder, as ``python -m`` runs them; but for device and number of cases."""
    ids = {**HOME["ssn_brats"], "dataset_dir": folders["brats"]}
    packed = Path(pack(untrained_output(tmp_path / "output", "ssn_brats", ids), str(tmp_path / "ssn")))
    monkeypatch.chdir(packed)
    place, language = (packed / "docs" / "README.md", "bash") if document == "card" else (repository / document, "text")
    ran = []
    for module, *words in commands(place, language, folders["brats"]):
        ran.append(words[0])
        more = ["--device", "cpu"] if words[0] == "run" else []
        if "configs/inference.json" in words and words[0] == "run":
            more += ["--max_cases", "1"]
        monkeypatch.setattr("sys.argv", [module, *words, *more])
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    assert ran == ["run", "run", *(["ckpt_export"] if document == "card" else ["verify_net_in_out", "ckpt_export"])]
    assert list((packed / "output" / "predictions").glob("*_samples.nii.gz"))
    assert (packed / "output" / "evaluation_all.csv").is_file()
    assert torch.jit.load(packed / "models" / "answer.ts")(torch.rand(1, 4, 24, 16, 32)).shape == (1, 4, 24, 16, 32)


def test_a_packed_answer_is_that_of_the_bundle(folders, tmp_path) -> None:
    """In windows too, whose parameters are stitched."""
    ids = {**HOME["ssn_brats"], "dataset_dir": folders["brats"]}
    output = untrained_output(tmp_path / "output", "ssn_brats", ids)
    target = pack(output, str(tmp_path / "ssn"))
    given = {"dataset_dir": folders["brats"], "device": "cpu", "max_cases": 1, "eval_samples": 3}
    run_workflow(files=[f"{target}/configs/inference.json"], **given, prediction_dir=str(tmp_path / "packed"))
    own = {key: value for key, value in ids.items() if key not in ("num_samples", "pretrain_epochs", "test_samples")}
    for key in ("eval_samples", "split_fractions", "patches_per_image", "dataset_dir"):
        own.pop(key, None)
    files = {"checkpoint": f"{output}/model_best.pt", "prediction_dir": str(tmp_path / "own")}
    run_workflow("ssn_brats", base="inference", **own, **given, **files, output_dir=output)
    files = sorted((tmp_path / "own").glob("*.nii.gz"))
    assert len(files) == 11  # with image, readers and mutual information
    for file in files:
        voxels, expected = (nib.load(each).get_fdata() for each in (tmp_path / "packed" / file.name, file))
        np.testing.assert_allclose(voxels, expected, atol=1e-5)


def test_writes_the_formats_that_are_asked_for(folders, tmp_path, capsys) -> None:
    ids = {**METHODS["ssn"].ids, "dataset_dir": folders["lidc"]}
    output = untrained_output(tmp_path / "output", "ssn_lidc", ids)
    target = tmp_path / "ssn"
    main(["pack", f"--output_dir={output}", f"--to={target}", "--formats=['ts']"])
    assert sorted(path.name for path in (target / "models").iterdir()) == ["model.pt", "model.ts"]
    metadata = read(target / "configs" / "metadata.json")
    jsonschema.validate(metadata, SCHEMA)
    assert metadata["sampler_data_format"]["inputs"]["noise"]["spatial_shape"] == ["2 + 2 * voxels"]
    traced = torch.jit.load(str(target / "models" / "model.ts"))
    network = load("ssn", bundle_dir=str(tmp_path), workflow_type="inference", device="cpu").eval()
    image = torch.rand(2, 1, 20, 12)
    module = exportable(network.network)
    noise = module.draw_noise(image, 5)
    with torch.no_grad():
        for output, expected in zip(traced(image, noise), module(image, noise), strict=True):
            torch.testing.assert_close(output, expected)
    with pytest.raises(SystemExit, match=r"formats must be a list of \['ts', 'onnx', 'pt2'\].*got 'ts'"):
        main(["pack", f"--output_dir={output}", f"--to={tmp_path / 'b'}", "--formats=ts"])


@pytest.mark.slow
def test_all_formats_of_a_packed_bundle_answer_alike(folders, tmp_path) -> None:
    pytest.importorskip("onnxscript")
    ids = {**HOME["ssn_brats"], "dataset_dir": folders["brats"]}
    target = tmp_path / "ssn"
    output = untrained_output(tmp_path / "output", "ssn_brats", ids)
    words = ["-m", "monai_stochseg", "pack", "--output_dir", output, "--to", str(target)]
    done = run_command([*words, "--formats=['ts','onnx','pt2']"], cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"{target}\n", "")  # exporters have much to say
    metadata = read(target / "configs" / "metadata.json")
    module = exportable(load("ssn", bundle_dir=str(tmp_path), workflow_type="inference", device="cpu").eval().network)
    files = {"metadata.json": ""}
    program = torch.export.load(target / "models" / "model.pt2", extra_files=files).module()
    session = pytest.importorskip("onnxruntime").InferenceSession(target / "models" / "model.onnx")
    assert json.loads(files["metadata.json"]) == metadata
    assert json.loads(session.get_modelmeta().custom_metadata_map["metadata"]) == metadata
    image = torch.rand(1, 4, 24, 16, 32)
    noise = module.draw_noise(image, 5)
    with torch.no_grad():
        expected = module(image, noise)
        given = {"image": image.numpy(), "noise": noise.numpy()}
        for found in (program(image, noise), session.run(None, given)):
            for index in (0, 2):
                torch.testing.assert_close(torch.as_tensor(found[index]), expected[index], atol=1e-4, rtol=0)
            assert (torch.as_tensor(found[1]) != expected[1]).float().mean() < 0.01  # two classes may be as probable


def test_a_method_that_cannot_be_exported_is_one_line(folders, tmp_path) -> None:
    ids = {**METHODS["dropout"].ids, "dataset_dir": folders["lidc"]}
    output = untrained_output(tmp_path / "output", "baselines_lidc", ids)
    with pytest.raises(SystemExit, match="ExportError: network DropoutUNet draws its samples inside"):
        main(["pack", f"--output_dir={output}", f"--to={tmp_path / 'b'}", "--formats=['ts']"])
    assert not (tmp_path / "b").exists()


def test_size_divisor() -> None:
    assert size_divisor(BilinearUNet(2, 1, 2, (2, 4)).eval(), 1, 2) == 1
    with pytest.raises(ValueError, match="Conv2d takes no image of 64 voxels along each axis"):
        size_divisor(torch.nn.Conv2d(1, 2, 3, padding=-40).eval(), 1, 2)
