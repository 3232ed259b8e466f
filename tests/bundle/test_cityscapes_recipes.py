# SPDX-License-Identifier: Apache-2.0
"""The recipes of two papers on multimodal Cityscapes, and their controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import first_cause, make_workflow, run_workflow, table
from monai.bundle import ConfigParser
from monai.transforms import Compose
from tiny import METHODS, RUN, TASKS

from monai_stochseg.networks.nets import BlackBoxCalibrationNetwork, GivenProbabilities

KOHL = ("probunet_lidc", "baselines_lidc")
SIX = {"channels": [2] * 6}
CAR = {**METHODS["car"].ids, "calibration_def#channels": 4}


def recipe(bundle: str, folders: dict[str, str], output: Any, *overlays: str, **ids: Any) -> ConfigParser:
    given = {"dataset_dir": folders["cityscapes"], "output_dir": str(output), "num_workers": 0, "device": "cpu", **ids}
    return make_workflow(bundle, "tasks/cityscapes", "paper_cityscapes", *overlays, **given).parser


@pytest.mark.parametrize("bundle", KOHL)
def test_what_the_augmentation_leaves_empty_is_void(folders, tmp_path, bundle) -> None:
    """Of a scene that is road everywhere, no pixel from outside it becomes road."""
    parser = recipe(bundle, folders, tmp_path, **SIX, spatial_size=[32, 64])
    geometry = [t for t in parser.get_parsed_content("augmentation") if "label" in t.keys]
    outside = []
    for seed in range(10):
        scene = {"image": torch.ones(3, 32, 64), "label": torch.zeros(1, 32, 64, dtype=torch.uint8)}
        scene["label"][:, :4] = 255
        scene["image"][:, :4] = 0.5
        moved = Compose(geometry).set_random_state(seed)(scene)
        empty, full = moved["image"][0] == 0, moved["image"][0] > 0.999
        assert set(moved["label"][0][empty].tolist()) <= {255}
        assert set(moved["label"][0][full].tolist()) <= {0}
        assert full.any()
        assert set(moved["label"].unique().tolist()) <= {0, 255}
        outside.append(float(empty.float().mean()))
    assert max(outside) > 0.1


@pytest.mark.parametrize("bundle", KOHL)
def test_the_recipe_is_kohls(folders, tmp_path, bundle) -> None:
    config = ConfigParser.load_config_files(str(Path("bundles") / bundle / "paper_cityscapes.json"))
    assert config["max_epochs"] * config["images_per_epoch"] // config["batch_size"] == 240_000
    assert (config["batch_size"], config["all_modes"], config["channels"][-2:]) == (16, False, [512, 1024])
    latent = {"probunet_lidc": (6, None), "baselines_lidc": (3, 1.0)}  # of the VAE, whose divergence has a weight
    assert (config["latent_dim"], config.get("beta")) == latent[bundle]
    parser = recipe(bundle, folders, tmp_path, channels=[2])
    optimizer, schedule = (parser.get_parsed_content(part) for part in ("optimizer", "lr_scheduler"))
    rates = []
    for _ in range(240):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [i for i in range(1, 240) if rates[i] < rates[i - 1]] == [60, 120, 180]
    np.testing.assert_allclose((rates[0], rates[-1]), (1e-4, 1e-5))
    assert parser.get_parsed_content("loss").ignore_index == 255


@pytest.mark.parametrize("method", ["probunet", "threshold", "dropout", "ensemble", "mheads", "image2image_vae"])
def test_void_passes_through_every_method(folders, make_output, method) -> None:
    """Trained on scenes that are partly void, one draw of the switches each."""
    bundle, ids, _ = METHODS[method]
    output = make_output()
    given = {**RUN, **TASKS["cityscapes"], **ids, **SIX, "dataset_dir": folders["cityscapes"], "output_dir": output}
    overlays = ("tasks/cityscapes", "paper_cityscapes")
    given |= {"num_workers": 0, "max_epochs": 1}
    parser = run_workflow(bundle, *overlays, **given).parser
    trainer = parser.get_parsed_content("train#trainer")
    label = trainer.state.output["label"]
    label = label[0] if isinstance(label, tuple) else label
    assert label.shape[1:] == (1, 32, 64)
    assert (label == 255).any()
    assert torch.as_tensor(trainer.state.output["loss"]).isfinite()
    run_workflow(bundle, *overlays, "evaluate", **given)
    assert "mean" in table(Path(output) / "evaluation_test.csv")


def test_the_recipe_of_car_is_the_papers(folders, tmp_path) -> None:
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    np.save(predictions / "a.npy", np.zeros((24, 4, 8), np.uint8))
    thin = {"channels": [2, 2], "discriminator_channels": [2, 2], "predictions_dir": str(predictions)}
    parser = recipe("car_lidc", folders, tmp_path / "output", **thin)
    network = parser.get_parsed_content("network_def")
    assert isinstance(network.calibration, BlackBoxCalibrationNetwork)
    assert (len(network.calibration.blocks), network.refinement.latent_dim) == (5, 32)
    assert network.calibration.blocks[0].conv.in_channels == 3 + 24
    content = parser.get_parsed_content
    stages = ("calibration_epochs", "refinement_epochs")
    iterations = [content(name) * content("images_per_epoch") // content("batch_size") for name in stages]
    assert iterations == [120_000, 120_000]
    assert (content("num_samples"), content("batch_size"), content("crop_size")) == (7, 16, [128, 128])
    for prefix, rate in (("calibration#", 5e-4), ("", 2e-4), ("discriminator_", 1e-5)):
        schedule = content(f"{prefix}lr_scheduler")
        content(f"{prefix}optimizer").step()
        schedule.step()
        assert schedule.get_last_lr() == [rate]


def car_ids(folders: dict[str, str], output: str, **ids: Any) -> dict[str, Any]:
    given = {**RUN, **TASKS["cityscapes"], **METHODS["car"].ids, "num_workers": 0, "latent_dim": 4, "max_epochs": 2}
    given |= {"calibration_epochs": 1, "discriminator_channels": [2, 4]}
    return {**given, "dataset_dir": folders["cityscapes"], "output_dir": output, **ids}


def test_car_and_its_control_by_cross_entropy(folders, make_output) -> None:
    """Both stages on the predictions of a black box, then the second again by the control's loss."""
    overlays = ("tasks/cityscapes", "paper_cityscapes")
    main = car_ids(folders, make_output(), **{"calibration_def#channels": 4})
    run_workflow("car_lidc", *overlays, **main)
    checkpoint = f"{main['output_dir']}/calibration/model_best.pt"
    control = {**main, "output_dir": make_output("control"), "calibration_checkpoint": checkpoint}
    control["consistency"] = "cross_entropy"
    run_workflow("car_lidc", *overlays, run_id="refine", **control)
    for given in (main, control):
        evaluated = run_workflow("car_lidc", *overlays, "evaluate", **given).parser
        metrics = evaluated.get_parsed_content("validate#evaluator").state.metrics
        assert {"val_calibration_gap", "val_ece_switched", "val_ece_switched_answer"} <= metrics.keys()
        assert "mean" in table(Path(given["output_dir"]) / "evaluation_test.csv")
        assert (Path(given["output_dir"]) / "reliability_test.png").is_file()


def test_the_control_of_the_true_distribution(folders, make_output) -> None:
    """There is no first stage; the single answer is the truth, in evaluation too."""
    overlays = ("tasks/cityscapes", "paper_cityscapes", "true_distribution")
    given = car_ids(folders, make_output())
    parser = run_workflow("car_lidc", *overlays, **given).parser
    assert isinstance(parser.get_parsed_content("network_def").calibration, GivenProbabilities)
    assert not (Path(given["output_dir"]) / "calibration" / "model_last.pt").exists()
    parser = run_workflow("car_lidc", *overlays, "evaluate", **given).parser
    evaluator = parser.get_parsed_content("validate#evaluator")
    (output,) = evaluator.state.output
    label, weights = output["label"].as_tensor(), torch.as_tensor(output["rater_weights"])
    known = label[0] != 255
    for k in range(24):
        truth = ((label == k) * weights[:, None, None]).sum(0)
        torch.testing.assert_close(output["pred"][k].as_tensor()[known], truth[known].float(), rtol=0, atol=1e-4)


def test_an_image_without_label_has_no_true_distribution(folders, make_output) -> None:
    given = car_ids(folders, make_output())
    with pytest.raises(ValueError, match="true_distribution=True needs labels"), first_cause():
        run_workflow("car_lidc", "tasks/cityscapes", base="inference", true_distribution=True, **given)
