# SPDX-License-Identifier: Apache-2.0
"""The bundle mose_cityscapes end to end, its sizes overridden to seconds."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import TORCHRUN, command, first_cause, make_workflow, run_command, run_workflow
from PIL import Image

from monai_stochseg.bundle import check_overrides, cityscapes_channels, cityscapes_part, scale_crop_and_flip
from monai_stochseg.data import CITYSCAPES_SWITCHED_CLASSES, CaseError, simulate_street, simulated_cityscapes_folder
from monai_stochseg.losses import OptimalTransportLoss

SIZE = (32, 64)
TINY: dict[str, Any] = {
    "spatial_size": list(SIZE),
    "crop_size": [24, 24],
    "channels": [4, 8],
    "num_experts": 3,
    "num_samples": 2,
    "latent_dim": 2,
    "gamma": [[1, 0.5], [2, 1.0]],
    "max_epochs": 2,
    "val_interval": 1,
    "images_per_epoch": 4,
    "batch_size": 2,
    "device": "$torch.device('cpu')",
}


@pytest.fixture(scope="module")
def bundle(repository) -> Path:
    return repository / "bundles" / "mose_cityscapes"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    return simulated_cityscapes_folder(tmp_path_factory.mktemp("cityscapes") / "scenes", 8, SIZE)


def rows(file: Path) -> dict[str, dict[str, str]]:
    return {row["case"]: row for row in csv.DictReader(file.open())}


def write_scene(folder: Path, part: str, city: str, index: int, with_label: bool = True) -> str:
    """A scene as the organisers deliver it, with the label of 34 ids, in which 7 is the road and 0 is void."""
    picture, label = simulate_street(SIZE, index)
    name = f"{city}_{index:06d}_000019"
    ids = np.where(label == 0, 7, np.where(label == 13, 26, 0)).astype(np.uint8)
    files = {f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png": picture}
    if with_label:
        files[f"gtFine/{part}/{city}/{name}_gtFine_labelIds.png"] = ids
    for file, pixels in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / file)
    return name


def test_train_evaluate_and_infer(bundle, scenes, make_output) -> None:
    output = Path(make_output())
    options = {**TINY, "dataset_dir": scenes, "output_dir": str(output)}
    run_workflow(bundle, **options)
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mose_cityscapes").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["simulated"] == "True"
    assert {f"val_{name}" for name in ("hm_iou", "mode_frequency", "flip_ratio")} <= run.data.metrics.keys()
    assert (output / "samples.png").read_bytes()[:4] == b"\x89PNG"

    workflow = run_workflow(bundle, "evaluate.json", **options)
    test = [case["patient"] for case in cityscapes_part(scenes, "test")]
    table = rows(output / "evaluation_test.csv")
    assert list(table) == [*(f"{name}.png" for name in test), "mean"]
    assert table["mean"].keys() == {"case", "ged", "hm_iou", "diversity"}
    metrics = workflow.parser.get_parsed_content("validate#evaluator").state.metrics
    assert 0 <= metrics["val_mode_frequency"] <= 1
    assert 0 <= metrics["val_flip_ratio"] <= 8 / 17
    for figure in ("samples", "mode_frequency", "flip_ratio"):
        assert (output / f"{figure}_test.png").read_bytes()[:4] == b"\x89PNG"

    last = workflow.parser.get_parsed_content("validate#evaluator").state.output[0]
    assert last["samples"].shape == (6, *SIZE)
    torch.testing.assert_close(last["sample_weights"].sum(), torch.tensor(1.0))
    workflow = run_workflow(bundle, "evaluate.json", **options, representation="standard", eval_samples=4)
    last = workflow.parser.get_parsed_content("validate#evaluator").state.output[0]
    assert last["samples"].shape == (4, *SIZE)
    assert "sample_weights" not in last

    run_workflow(bundle, "inference.json", **options, **{"predictor#max_scenes": 1})
    name = "simulated-test_000002_000019"
    for kind, samples in {"mode": 1, "samples": 6, "entropy": 1}.items():
        image = nib.load(output / "predictions" / f"{name}_{kind}.nii.gz")
        assert image.shape == (*SIZE, 1, samples)
        assert image.get_data_dtype() == (np.float32 if kind == "entropy" else np.uint8)
    assert len(list((output / "predictions").iterdir())) == 3


def test_the_loss_sees_all_modes_with_their_probabilities_or_one_draw(bundle, scenes, make_output, monkeypatch) -> None:
    seen: list[tuple] = []
    forward = OptimalTransportLoss.forward

    def spy(self, input, target, rater_weights=None):
        seen.append((target.shape, rater_weights, self.gamma, self.rater_weighting))
        return forward(self, input, target, rater_weights)

    monkeypatch.setattr(OptimalTransportLoss, "forward", spy)
    options = {**TINY, "dataset_dir": scenes, "val_interval": 10, "rater_weighting": [[1, 0.0], [2, 1.0]]}
    run_workflow(bundle, output_dir=make_output("modes"), **options)
    shapes, weights, gammas, weightings = zip(*seen, strict=True)
    assert set(shapes) == {(2, 32, 24, 24)}
    for row in torch.cat(weights):
        torch.testing.assert_close(row.sum(), torch.tensor(1.0))
        torch.testing.assert_close(row[0], torch.tensor(9 * 10 * 11 * 12 * 13 / 17**5))  # no switch is thrown
    assert gammas == (0.5, 0.5, 1.0, 1.0)
    assert weightings == (0.0, 0.0, 1.0, 1.0)
    seen.clear()
    run_workflow(bundle, output_dir=make_output("draw"), all_modes=False, **options)
    assert [(shape, weights) for shape, weights, *_ in seen] == [((2, 1, 24, 24), None)] * 4


def test_a_resumed_run_ends_as_an_uninterrupted_one(bundle, scenes, make_output) -> None:
    def train(output: str, **override: object) -> dict[str, torch.Tensor]:
        options = {**TINY, "dataset_dir": scenes, "output_dir": make_output(output), "val_interval": 10, **override}
        workflow = run_workflow(bundle, **options)
        return workflow.parser.get_parsed_content("network_def").state_dict()

    whole = train("whole", max_epochs=3)
    train("parts", max_epochs=1, **{"lr_scheduler#total_iters": 3})
    resumed = train("parts", max_epochs=3, resume=True)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


def test_two_processes(bundle, scenes, make_output) -> None:
    output = make_output()
    options = {**TINY, "dataset_dir": scenes, "output_dir": output, "max_epochs": 1}
    args = command(bundle, "multi_gpu_train.json", **options)
    done = run_command([*TORCHRUN, *args], cwd=Path(output))
    assert done.returncode == 0, done.stderr[-3000:]
    state = torch.load(Path(output) / "model_last.pt", weights_only=True)["network"]
    assert not any(key.startswith("module.") for key in state)


def test_a_real_folder_with_another_models_predictions(bundle, make_output, tmp_path) -> None:
    """The organisers' layout: void pixels, labels of 34 ids, and at inference a scene without label."""
    real, predictions = tmp_path / "real", tmp_path / "predictions"
    predictions.mkdir()
    places = [("train", "aachen", 0), ("train", "ulm", 1), ("val", "munster", 2)]
    for place in places:
        name = write_scene(real, *place)
        np.save(predictions / f"{name}.npy", np.full((5, 8, 16), place[2], np.float16))
    options = {**TINY, "dataset_dir": str(real), "predictions_dir": str(predictions), "output_dir": make_output()}
    workflow = run_workflow(bundle, **options)
    dataset = workflow.parser.get_parsed_content("validate#evaluator").data_loader.dataset
    assert dataset[0]["image"].shape == (8, *SIZE)
    assert (dataset[0]["image"][3:] == 1).all()
    assert dataset[0]["label"].max() == 255
    run_workflow(bundle, "evaluate.json", **options)
    output = Path(options["output_dir"])
    assert list(rows(output / "evaluation_test.csv")) == ["munster_000002_000019.png", "mean"]

    name = write_scene(tmp_path / "new", "val", "munster", 2, with_label=False)
    run_workflow(bundle, "inference.json", **{**options, "dataset_dir": str(tmp_path / "new")})
    assert nib.load(output / "predictions" / f"{name}_samples.nii.gz").shape == (*SIZE, 1, 6)


def test_the_published_recipe_runs_small(bundle, scenes, make_output) -> None:
    options = {**TINY, "dataset_dir": scenes, "output_dir": make_output(), "channels": [2] * 4}
    options |= {"train#trainer#num_workers": 0, "validate#evaluator#num_workers": 0, "scale": [0.8, 0.99]}
    workflow = run_workflow(bundle, "paper.json", **options)
    assert workflow.parser.get_parsed_content("loss").share_threshold == 0.95
    assert (Path(options["output_dir"]) / "model_last.pt").is_file()


def test_the_published_recipe_is_the_papers(bundle) -> None:
    parser = make_workflow(bundle, "paper.json", channels=[2]).parser
    network, loss, optimizer, schedule = (
        parser.get_parsed_content(part) for part in ("network_def", "loss", "optimizer", "lr_scheduler")
    )
    assert (network.num_experts, network.num_samples, network.prior_mean.shape) == (35, 2, (35, 5))
    assert (loss.beta, loss.ignore_index, loss.cost.__name__) == (1, 255, "cross_entropy_cost")
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-3, 1e-5)
    config = json.loads((bundle / "paper.json").read_text())
    assert (config["max_epochs"], config["batch_size"], config["crop_size"]) == (1000, 12, [128, 128])
    assert config["channels"] == [32, 64, 128, 192, 192, 192, 192]
    gamma, weighting, threshold = (handler.value for handler in parser.get_parsed_content("handlers"))
    assert [(gamma(e), weighting(e), threshold(e)) for e in (1, 1000)] == [(1 / 32, 0, 1), (1, 1, 0.95)]
    rates = []
    for _ in range(3):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates, [1e-3, 0.999e-3, 0.998e-3])


def test_the_default_data_are_simulated(bundle, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("monai_stochseg.data.simulated_cityscapes_folder", lambda *args: asked.append(args) or "folder")
    for overlays in ((), ("paper.json",)):
        workflow = make_workflow(bundle, *overlays, bundle_root=str(tmp_path))
        assert workflow.parser.get_parsed_content("dataset_dir") == "folder"
        size, crop = (workflow.parser.get_parsed_content(each) for each in ("spatial_size", "crop_size"))
        assert asked[-1][2] == size
        assert scale_crop_and_flip(size, crop, workflow.parser.get_parsed_content("scale"))
    assert [Path(folder).name for folder, *_ in asked] == ["64", "256"]


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ({"validate#evaluator#part": "tests"}, CaseError, "part must be one of .* got 'tests'"),
        ({"dataset_dir": "no_folder"}, CaseError, "no scene found under"),
        ({"crop_size": [64, 64]}, ValueError, r"crop_size \[64, 64\] does not fit into a scene of \[32, 64\]"),
        ({"scale": [0.9, 0.5]}, ValueError, "scale must be the lowest and the highest factor"),
        ({"num_experts": 0}, ValueError, "num_experts must be at least 1, got 0"),
        ({"eval_samples": 5}, ValueError, "n=5 must be that"),
        ({"gamma": [[1, 0.1]]}, ValueError, "gamma"),
        ({"predictions_dir": "no_folder"}, CaseError, "no_folder holds no prediction"),
    ],
)
def test_bad_input_is_one_line(bundle, scenes, make_output, override, error, message) -> None:
    options = {**TINY, "dataset_dir": scenes, "output_dir": make_output(), **override}
    with pytest.raises(error, match=f"^.*{message}.*$"), first_cause():
        run_workflow(bundle, **options)
    assert not list(Path(options["output_dir"]).glob("*.pt"))


def test_an_empty_part_is_named(tmp_path) -> None:
    write_scene(tmp_path, "train", "aachen", 0)
    with pytest.raises(CaseError, match="part 'validation' is empty"):
        cityscapes_part(tmp_path, "validation")


def test_augmentation_moves_image_and_label_together() -> None:
    label = torch.zeros(1, 40, 60)
    label[:, :, 30:] = 1
    label[:, 30:] = 2
    shapes, mirrored = set(), 0
    steps = scale_crop_and_flip((40, 60), (24, 40), (0.7, 1.0))
    for seed in range(20):
        data: dict[str, torch.Tensor] = {"image": label.clone(), "label": label.clone()}
        for step in steps:
            step.set_random_state(seed)
            data = step(data)
        shapes.add(tuple(data["label"].shape))
        assert set(data["label"].unique().tolist()) <= {0, 1, 2}
        assert (data["image"].round() == data["label"]).float().mean() > 0.85
        mirrored += int(data["label"][0, 0, 0] > data["label"][0, 0, -1])
    assert shapes == {(1, 24, 40)}
    assert 0 < mirrored < 20


def test_channels_of_the_predictions(tmp_path) -> None:
    assert cityscapes_channels() == 3
    np.save(tmp_path / "aachen_000000_000019.npy", np.zeros((19, 4, 8), np.uint8))
    assert cityscapes_channels(tmp_path) == 22


def test_every_id_of_the_readme_is_one(bundle) -> None:
    """Ids of the tables and options of the commands, under their configuration files."""
    readme = (bundle / "README.md").read_text()
    files = [str(bundle / f"{file}.json") for file in ("train", "evaluate", "inference", "paper")]
    program = ["monai/bundle/__main__.py", "run", "--config_file", repr(files)]
    table = [line.split("|")[1] for line in readme.split("## Ids")[1].splitlines() if line.startswith("| `")]
    ids = {found for row in table for found in re.findall(r"`([^`]+)`", row)}
    options = set(re.findall(r"--([a-z_#]+) ", readme)) - {"standalone", "nproc_per_node", "config_file"}
    for each in ids | options:
        check_overrides([*program, f"--{each}", "1"])
    config = {key for file in files[:3] for key in json.loads(Path(file).read_text()) if "#" not in key}
    components = {"imports", "bundle_root", "distributed", "network_def", "network", "loss", "handlers", "predictor"}
    components |= {"train", "validate", "initialize", "run", "finalize"}
    assert config - components <= ids


def test_metadata(bundle) -> None:
    """`forward` gives its loss samples and weights; what MONAI's metadata can say is one sample's logits."""
    meta, template = (
        json.loads((bundle.parent / name / "metadata.json").read_text()) for name in (bundle.name, "ssn_brats")
    )
    assert meta.keys() == template.keys()
    output = meta["network_data_format"]["outputs"]["pred"]
    assert len(output["channel_def"]) == output["num_channels"] == len(CITYSCAPES_SWITCHED_CLASSES)
    assert [name.removeprefix("logit of ") for name in output["channel_def"].values()] == list(
        CITYSCAPES_SWITCHED_CLASSES
    )
    network = make_workflow(bundle, **{key: TINY[key] for key in ("channels", "num_experts")}).parser
    network = network.get_parsed_content("network_def").eval()
    image = meta["network_data_format"]["inputs"]["image"]
    logits = network.predictive(torch.rand(2, image["num_channels"], 20, 36)).sample_logits(3)
    assert logits.shape == (2, 3, output["num_channels"], 20, 36)
