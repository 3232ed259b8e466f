# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from bundle_runs import config_files, run_workflow
from monai.bundle import ConfigWorkflow, load
from tiny import METHODS, RUN

from monai_stochseg.__main__ import main
from monai_stochseg.bundle.pack import pack
from monai_stochseg.data import CaseError, simulated_brain_folder

SIZES = {"roi_size": [16] * 3, "patch_size": [8] * 3, "split_fractions": [0.5, 0.25, 0.25], "strides": [2]}


@pytest.fixture(scope="module")
def brains(tmp_path_factory) -> str:
    return simulated_brain_folder(tmp_path_factory.mktemp("data") / "brains", 8, (16, 16, 16))


@pytest.fixture
def output(brains, make_output) -> Path:
    """A tiny SSN that has been trained and evaluated."""
    folder = make_output()
    ids = {**RUN, **METHODS["ssn"].ids, **SIZES, "dataset_dir": brains, "output_dir": folder, "feature_channels": 4}
    run_workflow("ssn_brats", **ids)
    run_workflow(files=config_files("ssn_brats", "evaluate"), **ids)
    return Path(folder)


def test_a_packed_bundle_stands_alone(output, brains, tmp_path, monkeypatch, capsys) -> None:
    target = tmp_path / "elsewhere" / "tumours"
    main(["pack", f"--output_dir={output}", f"--to={target}"])
    assert capsys.readouterr().out == f"{target}\n"
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    configs = {f"configs/{name}" for name in ("metadata.json", "train.json", "evaluate.json", "inference.json")}
    assert names == {*configs, "configs/logging.conf", "models/model.pt", "docs/README.md", "LICENSE"}
    assert str(tmp_path) not in "".join((target / name).read_text() for name in configs)

    monkeypatch.chdir(tmp_path)
    given = {"dataset_dir": brains, "device": "cpu"}
    for name, purpose in (("train", "train"), ("inference", "infer")):
        files = str(target / "configs" / f"{name}.json")
        workflow = ConfigWorkflow(files, logging_file=False, workflow_type=purpose, **given)
        workflow.initialize()
        assert not workflow.check_properties()
    run_workflow(files=[str(target / "configs" / "inference.json")], max_cases=1, **given)
    assert len(list((target / "output" / "predictions").glob("*_samples.nii.gz"))) == 1
    judged = run_workflow(files=[str(target / "configs" / "evaluate.json")], **given)
    evaluator = judged.parser.get_parsed_content("validate#evaluator")
    assert len(evaluator.data_loader) == 8  # all cases
    assert (target / "output" / "evaluation_all.csv").is_file()


def test_weights_and_metadata(output, tmp_path) -> None:
    target = Path(pack(str(output), str(tmp_path / "ssn")))
    best = torch.load(output / "model_best.pt", weights_only=True)
    weights = torch.load(target / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(weights[key], best["network"][key]) for key in best["network"])
    metadata = json.loads((target / "configs" / "metadata.json").read_text())
    assert metadata["pytorch_version"] == torch.__version__.split("+")[0]
    assert metadata["label_classes"] == "0 background, 1 NET, 2 OD, 3 ET"
    assert metadata["eval_metrics"] == {best["metric"]: best["value"]}
    required = ("schema", "version", "monai_version", "numpy_version", "required_packages_version", "task", "authors")
    assert all(metadata[key] for key in (*required, "description", "copyright", "network_data_format", "changelog"))
    assert metadata["required_packages_version"]["monai_stochseg"]
    card = (target / "docs" / "README.md").read_text()
    assert "## Evaluation of the part `test`: 2 cases" in card
    assert "| ged |" in card


def test_the_card_says_what_was_trained_on_and_with(output, tmp_path) -> None:
    """Data, whether they are simulated, versions, limits and licence; and that of an output which does not say."""
    config = json.loads((output / "config.json").read_text())
    assert config["trained_on"] == {"simulated": True}
    config["trained_by"] |= {"torch": "2.12.0", "commit": "0123abc"}  # and another one packs it
    (output / "config.json").write_text(json.dumps(config))
    target = Path(pack(str(output), str(tmp_path / "ssn")))
    assert json.loads((target / "configs" / "metadata.json").read_text())["pytorch_version"] == "2.12.0"
    card = (target / "docs" / "README.md").read_text()
    assert "The images of this training are **simulated**. Patients: 4 train, 2 validation, 2 test." in card
    for line in (
        f"monai_stochseg {config['trained_by']['monai_stochseg']} (0123abc), MONAI {version('monai')}, PyTorch 2.12.0,",
        "BraTS (2015 to 2023, or the Medical Segmentation Decathlon), or simulated volumes",
        "## Limits",
        "no medical device",
        "The network takes an image of `n` voxels along each axis",
        "channels flair, t1, t1c, t2",
        "[LICENSE](../LICENSE)",
    ):
        assert line in card, line
    assert "simulated_0" not in card  # no patient

    (output / "config.json").write_text(json.dumps({**config, "trained_on": {"simulated": False}}))
    (output / "split.json").unlink()
    card = Path(pack(str(output), str(tmp_path / "real")), "docs", "README.md").read_text()
    assert "The images of this training are real." in card
    config.pop("trained_on")
    (output / "config.json").write_text(json.dumps(config))
    card = Path(pack(str(output), str(tmp_path / "old")), "docs", "README.md").read_text()
    assert "It is not recorded whether the images of this training are simulated." in card
    assert "trained_on" not in (tmp_path / "ssn" / "configs" / "train.json").read_text()


def test_monai_loads_it(output, tmp_path) -> None:
    pack(str(output), str(tmp_path / "ssn"))
    network = load("ssn", bundle_dir=str(tmp_path), workflow_type="inference", device="cpu")
    best = torch.load(output / "model_best.pt", weights_only=True)["network"]
    assert all(torch.equal(value, best[key]) for key, value in network.state_dict().items())


def test_a_wrong_argument_ends_in_one_line(output, tmp_path) -> None:
    (output / "model_best.pt").unlink()
    for to, line in (
        (tmp_path, f"FileExistsError: to: {tmp_path} is there already"),
        (tmp_path / "ssn", "FileNotFoundError: no checkpoint at "),
    ):
        with pytest.raises(SystemExit, match=f"^{line}[^\n]*$"):
            main(["pack", f"--output_dir={output}", f"--to={to}"])


def test_refuses(output, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere/config.json"):
        pack(str(tmp_path / "nowhere"), str(tmp_path / "ssn"))
    with pytest.raises(FileExistsError, match="is there already"):
        pack(str(output), str(tmp_path))
    config = json.loads((output / "config.json").read_text())
    for found, cure in (({"monai_stochseg": "0.0.9"}, "install monai_stochseg 0.0.9 to pack it"), ({}, "train again")):
        (output / "config.json").write_text(json.dumps({**config, "trained_by": found}))
        with pytest.raises(CaseError, match=rf"config.json is of monai_stochseg .*, and this is .*: {cure}"):
            pack(str(output), str(tmp_path / "ssn"))
    (output / "model_best.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*model_best.pt: train first"):
        pack(str(output), str(tmp_path / "ssn"))
    assert not (tmp_path / "ssn").exists()
    assert not list(tmp_path.glob(".pack*"))
