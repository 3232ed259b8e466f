# SPDX-License-Identifier: Apache-2.0
"""Each bundle at home: its configurations, its recipe, its metadata and its README."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, NAMES, config_files, first_cause, make_workflow, run_workflow, table
from disc_crops import disc_crops
from monai.bundle import ConfigParser, ckpt_export, create_workflow
from monai.networks.nets import UNet
from monai.transforms import Compose
from tiny import HOME, HOME_TASK, METHODS, RUN, TASKS

from monai_stochseg.bundle.overrides import check_overrides
from monai_stochseg.data import BRATS_CLASSES, CITYSCAPES_SWITCHED_CLASSES, PROSTATE_ZONES, simulated_brain_folder
from monai_stochseg.data.lidc.crops_folder import write_crops
from monai_stochseg.networks.nets import CalibrationNetwork, DeterministicSampler
from monai_stochseg.transforms import MaskLabeld

LIDC = [name for name in NAMES if name.endswith("_lidc") and name != "msvls_lidc"]
SOFT = [name for name in NAMES if "svls" in name]
IN_3D = [name for name in NAMES if HOME_TASK[name] not in ("lidc", "cityscapes")]
# Ids that are components or commands, and no settings.
COMPONENTS = {
    *("imports", "bundle_root", "task", "network_def", "network", "loss", "options", "parameters", "train", "validate"),
    *("baseline", "backbone", "discriminator_def", "discriminator", "calibration", "calibrate", "refine"),
    *("scale_figure", "latent_figure"),
    *(
        "dataset",
        "preprocessing",
        "inferer",
        "postprocessing",
        "recorder",
        "evaluator",
        "initialize",
        "run",
        "finalize",
    ),
}


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def at_home(name: str, folders: dict[str, str], output: str, **override: Any) -> dict[str, Any]:
    return {**RUN, **HOME[name], "dataset_dir": folders[HOME_TASK[name]], "output_dir": output, **override}


@pytest.mark.parametrize("name", NAMES)
def test_monai_finds_what_a_training_must_have(folders, make_output, name) -> None:
    options = at_home(name, folders, make_output(), logging_file=False)
    (config,) = config_files(name)
    assert create_workflow(config_file=config, workflow_type="train", **options).check_properties() == []


@pytest.mark.parametrize("name", NAMES)
def test_inference_stands_alone(folders, tmp_path, name) -> None:
    """Copied out of the bundle, without ``train.json``."""
    (config,) = config_files(name, base="inference")
    for file in (config, Path(config).with_name("metadata.json")):
        shutil.copy(file, tmp_path)
    options = at_home(name, folders, str(tmp_path), logging_file=False)
    workflow = create_workflow(config_file=str(tmp_path / "inference.json"), workflow_type="infer", **options)
    assert workflow.check_properties() == []
    assert len(workflow.dataset) == len(workflow.parser.get_parsed_content("task").cases("all"))
    assert "label" not in workflow.dataset[0]


def test_written_files_are_what_follows_from_train_json(tmp_path) -> None:
    check = [sys.executable, str(BUNDLES), "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "bundles"
    shutil.copytree(BUNDLES, copy, ignore=shutil.ignore_patterns("*data", "output*"))
    train = copy / "ssn_lidc" / "train.json"
    train.write_text(train.read_text().replace('"rank": 10', '"rank": 3', 1))
    (copy / "car_lidc" / "logging.conf").unlink()
    check[1] = str(copy)
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 1
    changed = "run python bundles: car_lidc/logging.conf, ssn_lidc/inference.json would change."
    assert done.stderr.strip().splitlines()[-1] == changed
    subprocess.run(check[:2], check=True)
    assert load(copy / "ssn_lidc" / "inference.json")["rank"] == 3
    assert subprocess.run(check).returncode == 0


# The published recipe of each bundle, thin, and on images that are hardly larger than what it crops.
SMALL: dict[str, dict[str, Any]] = {
    **{name: {"crop_size": [12, 12]} for name in LIDC},
    "baselines_lidc": {"crop_size": [12, 12], "channels": [2] * 4},
    "car_lidc": {
        "crop_size": [12, 12],
        "calibration_epochs": 1,
        "discriminator_channels": [2, 4],
        "calibration_def#channels": [2, 4],
        "calibration_def#num_convs": [1, 1],
    },
    "flowssn_lidc": {"crop_size": [12, 12], "channels": [2] * 4, "warmup_epochs": 2},
    "hprobunet_lidc": {"crop_size": [12, 12], "channels": [2] * 4, "latent_dims": [1, 1]},
    "mose_cityscapes": {"channels": [2] * 4, "scale": [0.8, 0.99]},
    "mose_lidc": {"crop_size": [12, 12], "channels": [2] * 7},
    "msvls_lidc": {"manifest": "kohl"},
    "phiseg_lidc": {"crop_size": [12, 12], "channels": [2] * 4, "latent_levels": 3},
    "probunet_lidc": {"crop_size": [12, 12], "channels": [2] * 4},
    "ssn_lidc": {"crop_size": [12, 12], "channels": [2] * 7},
    "supervised_uncertainty_lidc": {"crop_size": [12, 12], "channels": [2] * 4},
    "svls_brats": {"roi_size": [32] * 3},
    "svls_kits": {"roi_size": [16, 32, 32], "spacing": [11.0, 7.0, 7.0]},
    "svls_prostatex": {"roi_size": [16, 32, 32], "spacing": [6.0, 5.0, 5.0], "strides": [[1, 2, 2], *[[2] * 3] * 3]},
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ssn_brats"])
def test_the_published_recipe_runs_small(folders, make_output, name) -> None:
    output = Path(make_output())
    small = {"num_workers": 0, **SMALL[name]}
    if name in SOFT:
        small = {"channels": [2, 2, 4, 4, 4], "strides": [2] * 4, "max_epochs": 1, **small}
    options = at_home(name, folders, str(output), **small)
    if HOME_TASK[name] in ("brats_whole", "kits", "prostatex"):
        del options["split_fractions"]
    workflow = run_workflow(name, "paper", **options)
    assert (output / "model_last.pt").is_file()
    if "crop_size" in small and name in LIDC:
        ids = ("validate#evaluator", "train#trainer", *(["calibration#trainer"] * (name == "car_lidc")))
        for part in map(workflow.parser.get_parsed_content, ids):
            assert part.data_loader.dataset[0]["label"].shape == (4, 12, 12)
    if name in ("svls_brats", "svls_kits", "svls_prostatex"):
        # as the paper: no validation, and the last network is judged on the test part
        split = load(output / "split.json")
        assert [len(split[part]) for part in ("train", "validation", "test")] == [3, 0, 1]
        assert workflow.parser.get_parsed_content("train#dataset")[0]["image"].shape[1:] == tuple(small["roi_size"])
        run_workflow(name, "paper", "evaluate", **options)
        assert list(table(output / "evaluation_test.csv")) == [*split["test"], "mean", "std"]


@pytest.mark.slow
@pytest.mark.parametrize("overlays", [("paper",), ("paper", "deterministic")])
def test_the_published_recipe_of_ssn_brats_runs_small(make_output, tmp_path, overlays) -> None:
    """A thin DeepMedic, whose fields of view need a patch of 95, and one batch an epoch."""
    dataset_dir = simulated_brain_folder(tmp_path / "brains", 3, (110, 110, 110))
    thin = {"backbone#channels": [2] * 8, "backbone#fully_connected": [8, 8], "feature_channels": 4}
    options = {**RUN, **thin, "patch_size": [95] * 3, "label_size": [15] * 3, "images_per_epoch": 1, "batch_size": 1}
    options |= {"max_epochs": 1, "num_samples": 2, "eval_samples": 2, "dataset_dir": dataset_dir}
    output = Path(make_output())
    if "deterministic" in overlays:
        del options["feature_channels"]
    run_workflow("ssn_brats", *overlays, **options, output_dir=str(output))
    assert (output / "model_best.pt").is_file()


def test_a_deterministic_network_is_judged_as_the_others(folders, make_output) -> None:
    """The backbone alone, with cross entropy: all samples are its answer, and the table is that of an SSN."""
    output = Path(make_output())
    options = at_home("ssn_brats", folders, str(output))
    del options["feature_channels"], options["pretrain_epochs"]
    run_workflow("ssn_brats", "deterministic", **options)
    run_workflow("ssn_brats", "deterministic", "evaluate", **options)
    rows = table(output / "evaluation_test.csv")
    assert float(rows["mean"]["diversity"]) == 0
    assert float(rows["mean"]["ged"]) > 0
    workflow = run_workflow("ssn_brats", "deterministic", base="inference", **options, max_cases=1)
    assert isinstance(workflow.parser.get_parsed_content("network_def"), DeterministicSampler)


def test_the_augmentation_of_ssn_brats_keeps_image_and_label_together(folders, tmp_path) -> None:
    """A larger patch and its label's centre are turned and flipped alike; the image alone is changed otherwise."""
    augmentation = Compose(paper("ssn_brats", folders, tmp_path)[1].get_parsed_content("augmentation"))
    image = torch.arange(9**3, dtype=torch.float32).reshape(1, 9, 9, 9)
    seen = set()
    for seed in range(20):
        found = augmentation.set_random_state(seed)({"image": image, "label": image[..., 3:6, 3:6, 3:6]})
        change = found["image"][..., 3:6, 3:6, 3:6] - found["label"]
        assert (change.abs() <= 0.0173 * found["label"] + 0.051).all()
        seen.add(round(found["label"][0, 0, 0, 0].item()))
        assert torch.equal(found["label"][0, 1, 1], image[0, 4, 4, 3:6])  # the body's axis stays
    assert len(seen) > 2


def test_the_deformation_of_ssn_brats_keeps_image_label_and_void_together(folders, tmp_path) -> None:
    """The label stays whole numbers, moves with the image, and what comes from outside the brain is void."""
    deform = Compose(paper("ssn_brats", folders, tmp_path)[1].get_parsed_content("volume_augmentation"))
    label = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    label[:, 8:32, 8:32, 8:32] = 1
    label[:, 14:26, 14:26, 14:26] = 3
    mask = torch.zeros_like(label)
    mask[:, 4:36, 4:36, 4:36] = 1
    moved = 0
    for seed in range(4):
        case = {"image": label.float(), "label": label, "mask": mask}
        found = MaskLabeld("label")(deform.set_random_state(seed)(case))
        inside = found["mask"][0] > 0
        assert set(found["label"][0][inside].unique().tolist()) <= {0, 1, 3}
        assert (found["label"][0][~inside] == 255).all()
        # the image is between the label's values only beside a border
        agree = (found["image"][0] - found["label"][0]).abs()[inside] < 0.5
        assert agree.float().mean() > 0.95
        moved += not torch.equal(found["label"][0][inside], label[0][inside].float())
    assert moved > 0


@pytest.mark.parametrize("one_rater", [True, False])
@pytest.mark.parametrize(
    ("name", "ids"),
    [("baselines_lidc", {"method": "deterministic"}), ("probunet_lidc", {}), ("ssn_lidc", {"diagonal": True})],
)
def test_several_methods_run_under_the_recipe_of_ssn_lidc(folders, make_output, name, ids, one_rater) -> None:
    output = Path(make_output())
    options = at_home(name, folders, str(output), num_workers=0, one_rater=one_rater, **SMALL["ssn_lidc"], **ids)
    recipe = [str(BUNDLES / file) for file in (f"{name}/train.json", "ssn_lidc/paper.json")]
    parser = run_workflow(files=recipe, **options).parser
    assert type(parser.get_parsed_content("lr_scheduler")) is torch.optim.lr_scheduler.ConstantLR
    assert parser.get_parsed_content("train#dataset")[0]["label"].shape == (1 if one_rater else 4, 12, 12)
    run_workflow(files=[*recipe, str(BUNDLES / "evaluate.json")], **options)
    assert (output / "evaluation_test.csv").is_file()


@pytest.mark.parametrize("name", ["ssn_lidc", "ssn_brats"])
def test_a_scaled_sample_by_ids_and_in_a_figure(folders, make_output, name) -> None:
    """Temperature 0 is the mean, in evaluation and inference; the figure needs the network of the training alone."""
    output = Path(make_output())
    options = at_home(name, folders, str(output), **({"pretrain_epochs": 0, "max_epochs": 1}))
    run_workflow(name, **options)
    workflow = make_workflow(name, "evaluate", **options)
    workflow.parser.get_parsed_content("scale_figure")
    assert (output / "scaled_test.png").read_bytes()[:4] == b"\x89PNG"
    run_workflow(name, "evaluate", **options, temperature=0.0)
    assert float(table(output / "evaluation_test.csv")["mean"]["diversity"]) == 0
    classes = workflow.parser.get_parsed_content("task").num_classes
    scales = {"class_scale": [0.0] * classes, "rank_scale": [1.0] * 2}
    network = make_workflow(name, base="inference", **options, **scales).parser.get_parsed_content("network")
    assert network.class_scale == [0.0] * classes
    with pytest.raises(ValueError, match="rank_scale must hold 2 values, got 3"), first_cause():
        make_workflow(name, **options, rank_scale=[1.0] * 3).parser.get_parsed_content("network_def")


def rates(parser: ConfigParser, epochs: int, prefix: str = "") -> np.ndarray:
    """Learning rates of the epochs."""
    optimizer, schedule = (parser.get_parsed_content(prefix + part) for part in ("optimizer", "lr_scheduler"))
    found = []
    for _ in range(epochs):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return np.array(found)


def paper(name: str, folders: dict[str, str], output: Path, **thin: Any) -> tuple[dict[str, Any], ConfigParser]:
    """The configuration of a recipe, and its components with a thin network."""
    config = load(BUNDLES / name / "train.json") | load(BUNDLES / name / "paper.json")
    dataset_dir = folders[HOME_TASK[name]]
    return config, make_workflow(name, "paper", dataset_dir=dataset_dir, output_dir=str(output), **thin).parser


def test_the_recipe_of_ssn_brats_is_the_papers(folders, tmp_path) -> None:
    thin = {"backbone#channels": [2] * 8, "backbone#fully_connected": [8, 8], "feature_channels": 4}
    config, parser = paper("ssn_brats", folders, tmp_path, **thin)
    assert (config["patch_size"], config["label_size"]) == ([110] * 3, [30] * 3)
    assert config["batch_size"] * config["patches_per_image"] == 10
    assert parser.get_parsed_content("task").normalization == "above_mean"
    assert config["images_per_epoch"] * config["patches_per_image"] == 50 * 20
    assert (config["max_epochs"], config["rank"], config["num_samples"]) == (1200, 10, 20)
    (group,) = parser.get_parsed_content("optimizer").param_groups
    assert {k: group[k] for k in ("momentum", "alpha", "weight_decay")} == {
        "momentum": 0.6, "alpha": 0.9, "weight_decay": 1e-4
    }  # fmt: skip
    found = rates(parser, 1200)
    assert [i for i in range(1, 1200) if found[i] < found[i - 1]] == [440, 640, 800, 900, 980, 1050]
    np.testing.assert_allclose(found[[0, -1]], [1e-3, 1e-3 / 64])


@pytest.mark.parametrize(
    "name", ["baselines_lidc", "hprobunet_lidc", "mose_lidc", "phiseg_lidc", "probunet_lidc", "ssn_lidc"]
)
def test_the_recipes_on_lidc_are_the_papers(folders, tmp_path, name) -> None:
    own = {"baselines_lidc": {"num_hypotheses": 2}}
    own |= {key: {"channels": [2] * 5} for key in ("phiseg_lidc", "hprobunet_lidc")}
    thin = {"channels": [2], **own.get(name, {})}
    config, parser = paper(name, folders, tmp_path, **thin)
    length = tuple(config[key] for key in ("max_epochs", "images_per_epoch", "batch_size"))
    optimizer, found = parser.get_parsed_content("optimizer"), rates(parser, config["max_epochs"])
    assert type(optimizer) is torch.optim.Adam
    assert config["crop_size"] == [128, 128]
    if name == "ssn_lidc":
        assert (length, config["manifest"]) == ((500, 12_000, 12), "phiseg")
        assert (config["channels"], config["norm"]) == ([32, 64, 128, 192, 192, 192, 192], "BATCH")
        assert (config["rank"], config["num_samples"], config["raters"]) == (10, 20, "random")
        assert (config["covariance_init"], config["pretrain_epochs"]) == (None, 0)
        assert set(found) == {1e-3}
    elif name == "phiseg_lidc":
        assert (length, config["manifest"]) == ((500, 12_000, 12), "phiseg")
        assert (config["channels"], config["norm"]) == ([32, 64, 128, 192, 192, 192, 192], "BATCH")
        assert (config["latent_levels"], config["latent_dim"]) == (5, 2)
        assert parser.get_parsed_content("loss").level_weights == [256, 64, 16, 4, 1]
        assert set(found) == {1e-3}
    elif name == "mose_lidc":
        assert (length, config["manifest"]) == ((200, None, 16), "phiseg")
        assert (config["channels"], config["norm"]) == ([32, 64, 128, 192, 192, 192, 192], "BATCH")
        assert (config["num_experts"], config["num_samples"], config["latent_dim"]) == (4, 4, 1)
        assert optimizer.defaults["weight_decay"] == 1e-5
        np.testing.assert_allclose(found, 1e-3 * np.linspace(1, 1 / 200, 200))
    else:
        assert (length, config["manifest"]) == ((240, 32_000, 32), "kohl")
        if name == "hprobunet_lidc":
            assert config["channels"] == [24, 48, 96, *[192] * 5]
            assert (config["latent_dims"], config["blocks_per_level"]) == ([1] * 4, 3)
            loss = parser.get_parsed_content("loss")
            assert (loss.target_reconstruction, loss.target_per_voxel, loss.top_k) == (0.05, True, 0.02)
        else:
            assert (config["channels"], config["norm"]) == ([32, 64, 128, 256, 512], None)
        if name == "baselines_lidc":
            assert (config["num_hypotheses"], config["latent_dim"], config["beta"]) == (16, 3, 10.0)
        assert optimizer.defaults["weight_decay"] == 1e-5
        np.testing.assert_allclose(found[[0, -1]], [1e-4, 1e-6])
        assert len(set(found)) == 6


def test_the_recipe_of_supervised_uncertainty_is_the_authors(folders, tmp_path) -> None:
    """Their sums over 8 images and 4 readers, and their means, in the units of the loss."""
    config, parser = paper("supervised_uncertainty_lidc", folders, tmp_path, channels=[2])
    assert (config["max_epochs"], config["images_per_epoch"], config["batch_size"]) == (801, None, 8)
    assert (config["latent_dim"], config["num_samples"], config["crop_size"]) == (6, 4, [128, 128])
    raw = load(Path(config_files("supervised_uncertainty_lidc", "paper")[-1]))
    assert (raw["channels"], raw["norm"], raw["align_corners"]) == ([32, 64, 128, 192], None, True)
    loss = parser.get_parsed_content("loss")
    assert config["beta"] == [[1, 1 / 8]]
    assert (loss.weight_prior, loss.weight_beta, loss.uncertainty) == ("normal", 1 / 32, "cross_entropy")
    assert loss.num_images == len(parser.get_parsed_content("task").cases("train"))
    np.testing.assert_allclose(loss.uncertainty_weight, 1 / (32 * np.log(2) * 128**2), rtol=1e-2)
    assert set(rates(parser, 8)) == {1e-6}


@pytest.mark.parametrize("overlays", [(), ("tasks/brats",)])
def test_an_evaluation_has_both_uncertainties(folders, make_output, overlays) -> None:
    """In windows of a volume too: of each case, their sum being the whole."""
    output = Path(make_output())
    name = "supervised_uncertainty_lidc"
    options = at_home(name, folders, str(output), max_epochs=1)
    if overlays:
        options |= {**TASKS["brats"], "dataset_dir": folders["brats"]}
    run_workflow(name, *overlays, **options)
    run_workflow(name, *overlays, "evaluate", **options)
    rows = table(output / "evaluation_test.csv")
    for row in [row for case, row in rows.items() if case not in ("standard_error", "std")]:
        parts = [float(row[f"{part}uncertainty"]) for part in ("aleatoric_", "epistemic_", "")]
        assert sum(parts[:2]) == pytest.approx(parts[2], abs=1e-4)
        assert parts[0] > 0


def test_the_recipe_of_flowssn_is_the_authors(folders, tmp_path) -> None:
    config, parser = paper("flowssn_lidc", folders, tmp_path, channels=[2])
    assert (config["max_epochs"], config["images_per_epoch"], config["batch_size"]) == (1000, None, 32)
    assert (config["manifest"], config["crop_size"]) == ("phiseg", [128, 128])
    assert (config["flow_channels"], config["num_steps"], config["eval_samples"]) == ([16] * 3, 10, 32)
    assert parser.get_parsed_content("options").averaging == 0.9999
    optimizer = parser.get_parsed_content("optimizer")
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["weight_decay"] == 1e-4
    np.testing.assert_allclose(rates(parser, 8), 1e-4 * np.array([1, 2, 3, 4, 5, 6, 6, 6]) / 6)


def test_the_probabilistic_unet_has_the_papers_number_of_parameters(folders, tmp_path) -> None:
    """Core, prior and posterior; 27.5 million."""
    config, parser = paper("probunet_lidc", folders, tmp_path)
    assert (config["latent_dim"], config["align_corners"]) == (6, True)
    network = parser.get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_499_386


def test_the_recipe_of_car_is_the_papers(folders, tmp_path) -> None:
    config, parser = paper("car_lidc", folders, tmp_path, channels=[2, 2], discriminator_channels=[2, 2])
    assert (config["crop_size"], config["batch_size"], config["latent_dim"]) == ([128, 128], 32, 8)
    assert (config["d_on"], config["d_off"], config["num_samples"]) == (50, 200, 20)
    assert (config["adversarial_weight"], config["consistency_weight"]) == (10.0, 5.0)
    assert (config["calibration_epochs"], config["max_epochs"]) == (100, 300)
    assert isinstance(parser.get_parsed_content("network_def").calibration, CalibrationNetwork)
    for prefix, rate in (("calibration#", 2e-4), ("", 2e-4), ("discriminator_", 1e-5)):
        found = rates(parser, 60, prefix)
        assert found.tolist() == [rate] * 30 + [rate / 2] * 30
        defaults = parser.get_parsed_content(f"{prefix}optimizer").defaults
        assert (tuple(defaults["betas"]), defaults["weight_decay"]) == ((0.5, 0.99), 5e-4)


def test_the_recipe_on_cityscapes_is_the_papers(folders, tmp_path) -> None:
    config, parser = paper("mose_cityscapes", folders, tmp_path, channels=[2])
    network, loss, optimizer = (parser.get_parsed_content(part) for part in ("network_def", "loss", "optimizer"))
    assert (network.num_experts, network.num_samples, network.prior_mean.shape) == (35, 2, (35, 5))
    assert (loss.beta, loss.ignore_index, loss.cost.__name__) == (1 / 35, 255, "cross_entropy_cost")
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["weight_decay"] == 1e-5
    assert (config["max_epochs"], config["batch_size"], config["crop_size"]) == (1000, 12, [128, 128])
    assert config["channels"] == [32, 64, 128, 192, 192, 192, 192]
    gamma, weighting, threshold = (handler.value for handler in parser.get_parsed_content("train#handlers"))
    assert [(gamma(e), weighting(e), threshold(e)) for e in (1, 1000)] == [(1 / 32, 0, 1), (1, 1, 0.95)]
    np.testing.assert_allclose(rates(parser, 3), [1e-3, 0.999e-3, 0.998e-3])


@pytest.mark.parametrize(
    ("name", "train", "test", "voxels", "spacing"),
    [
        ("svls_kits", 168, 42, [80, 160, 160], [3.22, 1.62, 1.62]),
        ("svls_prostatex", 78, 20, [24, 320, 320], [3.0, 0.5, 0.5]),
        ("svls_brats", 269, 66, [128, 192, 192], None),
    ],
)
def test_the_recipes_of_svls_are_the_papers(folders, tmp_path, name, train, test, voxels, spacing) -> None:
    config, parser = paper(name, folders, tmp_path)
    task = parser.get_parsed_content("task")
    parts = task.split([{"patient": f"{i:03d}"} for i in range(train + test)])
    assert {part: len(cases) for part, cases in parts.items()} == {"train": train, "validation": 0, "test": test}
    assert (config["roi_size"], config["spacing"]) == (voxels, spacing)
    assert (task.volume.roi_size, task.volume.spacing) == (voxels, spacing)
    optimizer, network = (parser.get_parsed_content(part) for part in ("optimizer", "network_def"))
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 1e-4)
    assert isinstance(network, UNet)
    assert (list(network.channels), network.num_res_units) == ([16, 32, 64, 128, 256], 2)


def test_the_recipe_of_msvls_is_the_papers(folders, tmp_path) -> None:
    config, parser = paper("msvls_lidc", folders, tmp_path)
    optimizer, network = (parser.get_parsed_content(part) for part in ("optimizer", "network_def"))
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 1e-4)
    assert list(network.channels) == [16, 32, 64, 128, 256]
    assert (config["manifest"], config["target"]) == ("svls", "msvls")
    assert type(parser.get_parsed_content("loss")) is torch.nn.CrossEntropyLoss
    load_case = parser.get_parsed_content("task").load()
    assert load_case[1]({"image": torch.zeros(1, 90, 90, 90)})["image"].shape == (1, 96, 96, 96)


@pytest.mark.parametrize(("method", "rate"), [("image2image_vae", 1e-3), ("ensemble", 3e-3)])
def test_the_published_rate_wins_over_that_of_the_method(folders, tmp_path, method, rate) -> None:
    ids = {"method": method, "channels": [2, 4], "num_hypotheses": 2, "dataset_dir": folders["lidc"]}
    for overlays, expected in (((), rate), (("paper",), 1e-4)):
        parser = make_workflow("baselines_lidc", *overlays, output_dir=str(tmp_path), **ids).parser
        assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == expected


@pytest.mark.parametrize("name", ["ssn_lidc", "probunet_lidc"])
def test_the_recipes_augmentation_moves_image_and_masks_together(tmp_path, name) -> None:
    """The image shows what the first reader drew; the masks of all readers stay masks."""
    write_crops(disc_crops(2, 180), tmp_path / "crops", {})
    options = {"dataset_dir": str(tmp_path / "crops"), "output_dir": str(tmp_path), "channels": [2, 2]}
    dataset = make_workflow(name, "paper", **options, num_workers=0).parser.get_parsed_content("train#dataset")
    agreement, areas = [], set()
    for case in list(range(8)) * 2:
        crop = dataset[case]
        assert crop["image"].shape == (1, 128, 128)
        assert crop["label"].shape == (4, 128, 128)
        assert set(np.unique(crop["label"])) <= {0, 1}
        assert not crop["label"][3].any()
        nodule = crop["image"][0] > 0
        agreement.append((nodule == crop["label"][0].bool()).float().mean().item())
        areas.add(int(nodule.sum()))
    assert min(agreement) > 0.98
    assert len(areas) > 8  # of 16 draws


@pytest.mark.parametrize("overlays", [(), ("paper",)])
@pytest.mark.parametrize("name", LIDC)
def test_one_annotation_by_one_id(tmp_path, overlays, name) -> None:
    """Training sees one reader of each image, the same in every draw and method, validation all."""
    crops = list(disc_crops(2, 12))
    for crop in crops:
        for reader in range(4):
            crop.label[reader] = False
            crop.label[reader, reader] = True  # a row of the image each
    write_crops(crops, tmp_path / "crops", {})
    small = {"crop_size": [12, 12], "num_workers": 0, "dataset_dir": str(tmp_path / "crops"), "augmentation": []}
    small |= (
        {"channels": [2, 4, 8, 8], "discriminator_channels": [2, 4]} if name == "car_lidc" else {"channels": [2] * 4}
    )
    small |= {"phiseg_lidc": {"latent_levels": 3}, "hprobunet_lidc": {"latent_dims": [1]}}.get(name, {})
    found = []
    for ids in ({}, {"one_rater": True}):
        parser = make_workflow(name, *overlays, **small, output_dir=str(tmp_path), **ids).parser
        dataset, evaluator = (parser.get_parsed_content(part) for part in ("train#dataset", "validate#evaluator"))
        found.append([[dataset[i]["label"] for i in range(len(dataset))] for _ in range(3)])
        assert evaluator.data_loader.dataset[0]["label"].shape[0] == 4
    (all_readers, *_), draws = found
    assert {label.shape[0] for label in all_readers} == {4}
    readers = [[int(label.flatten(1).nonzero()[0, 1]) // 12 for label in draw] for draw in draws]
    assert readers[0] == readers[1] == readers[2]
    assert len(set(readers[0])) > 1
    assert {label.shape[0] for label in draws[0]} == {1}


def test_a_reader_of_each_step(folders, tmp_path) -> None:
    small = {
        "channels": [2, 4],
        "dataset_dir": folders["lidc"],
        "output_dir": str(tmp_path),
        "rater_of_each_step": True,
    }
    dataset = make_workflow("mose_lidc", **small).parser.get_parsed_content("train#dataset")
    labels = [dataset[0]["label"] for _ in range(20)]
    assert {label.shape[0] for label in labels} == {1}
    assert len({int(label.sum()) for label in labels}) > 1


@pytest.mark.parametrize("ids", [{}, {"one_rater": True}, {"rater_of_each_step": True}])
def test_the_divergence_weighs_more_with_one_annotation(folders, tmp_path, ids) -> None:
    small = {"channels": [2, 4], "dataset_dir": folders["lidc"], "output_dir": str(tmp_path)}
    assert make_workflow("mose_lidc", **small, **ids).parser.get_parsed_content("loss").beta == (10 if ids else 1)


@pytest.mark.parametrize(
    "ids",
    [
        {"gating_level": "$None"},
        {"gating_level": "encoder_0"},
        {"injection_level": 0},
        {"prior_std": 0.0, "num_samples": 1},
        {"solver": "pairwise"},
        {"num_experts": 2, "train_share": 0.5},
    ],
)
def test_the_ablations_of_mose_run_by_ids(folders, make_output, ids) -> None:
    output = Path(make_output())
    options = at_home("mose_lidc", folders, str(output), **ids)
    parser = run_workflow("mose_lidc", **options).parser
    network, loss, cases = (parser.get_parsed_content(key) for key in ("network_def", "loss", "train#dataset#data"))
    assert (network.gating is None) == (ids.get("gating_level") == "$None")
    assert loss.solver == ids.get("solver", "greedy")
    assert len({case["patient"] for case in cases}) == (2 if "train_share" in ids else 4)
    run_workflow("mose_lidc", "evaluate", **options)
    assert (output / "evaluation_test.csv").is_file()
    assert (output / "reliability_foreground_test.png").is_file()


def test_encoder_and_loss_of_car_are_ids_of_their_own(folders, make_output) -> None:
    options = at_home("car_lidc", folders, make_output())
    parser = run_workflow("car_lidc", **options, consistency="cvae_gan", latent_beta=0.1).parser
    assert (parser.get_parsed_content("loss").kind, parser.get_parsed_content("loss").beta) == ("cvae_gan", 0.1)
    for ids, expected in (({}, False), ({"consistency": "latent"}, True), ({"probabilistic_encoder": True}, True)):
        network = make_workflow("car_lidc", **options, **ids).parser.get_parsed_content("network_def")
        assert (network.refinement.code is not None) is expected


@pytest.mark.parametrize("name", SOFT)
def test_targets(folders, tmp_path, name) -> None:
    """One seed, several targets: the same images, and labels that differ where classes meet."""

    def first(**override: Any) -> dict[str, Any]:
        options = at_home(name, folders, str(tmp_path), augmentation=[], **override)
        return make_workflow(name, **options).parser.get_parsed_content("train#dataset")[0]

    hard, smooth, svls = first(target="onehot"), first(target="ls", alpha=0.3), first(target="svls")
    classes = hard["label"].shape[0]
    assert torch.equal(hard["image"], svls["image"])
    changed = (svls["label"] != hard["label"]).any(0).float().mean()
    assert 0 < changed < 0.5
    assert svls["label"].sum(0).sub(1).abs().max() < 1e-5
    torch.testing.assert_close(smooth["label"].as_tensor(), hard["label"].as_tensor() * 0.7 + 0.3 / classes)


def test_targets_of_four_readers(folders, tmp_path) -> None:
    """Three readers drew spheres of different sizes, the fourth nothing."""

    def first(**override: Any) -> dict[str, Any]:
        options = at_home("msvls_lidc", folders, str(tmp_path), augmentation=[], **override)
        return make_workflow("msvls_lidc", **options).parser.get_parsed_content("train#dataset")[0]

    one, drawn, moh, msvls = (first(target=target) for target in ("one", "all", "moh", "msvls"))
    background = first(target="moh", nonempty_raters=False)
    for case in (one, drawn, moh, msvls, background):
        assert case["label"].shape == (2, 12, 12, 12)
        assert case["label"].sum(0).sub(1).abs().max() < 1e-5
        assert torch.equal(case["image"], one["image"])
    assert torch.equal(one["label"][1].bool(), one["image"][0] > 0)
    assert set(drawn["label"].unique().tolist()) == {0, 1}
    assert drawn["label"][1].any()
    assert {round(3 * value, 4) for value in moh["label"].unique().tolist()} == {0, 1, 2, 3}
    torch.testing.assert_close(background["label"][1], moh["label"][1] * 3 / 4)
    assert 0 < (msvls["label"] != moh["label"]).any(0).float().mean() < 0.5


def test_the_augmentation_of_msvls_turns_image_and_masks_in_the_axial_plane(tmp_path) -> None:
    """Of a block that is longest along the slices' axis, which keeps its extent there."""
    crops = list(disc_crops(3, 32))
    for crop in crops:
        crop.label[:3] = False
        crop.label[:3, 12:20, 8:24, 4:28] = True
        crop.image[...] = np.where(crop.label[0], 400, -1000)
    write_crops(crops, tmp_path / "crops", {})
    options = {"dataset_dir": str(tmp_path / "crops"), "output_dir": str(tmp_path), "target": "moh"}
    dataset = make_workflow("msvls_lidc", **options).parser.get_parsed_content("train#dataset")
    turned, drawn = 0, 0
    for seed in range(6):
        dataset.transform.set_random_state(seed)
        for case in (dataset[i] for i in range(2)):
            nodule = case["image"][0] > 0
            assert (nodule == case["label"][1].bool()).float().mean() > 0.98
            assert set(case["label"].unique().tolist()) == {0, 1}  # the readers agree still
            slices = nodule.flatten(0, 1).any(0).nonzero()
            assert (slices.min(), slices.max()) == (4, 27)
            turned += int(nodule.any(2).sum() != 8 * 16)
            drawn += 1
    assert 0 < turned < drawn


FOLDERS = {
    "brats": "simulated_brain_folder",
    "brats_whole": "simulated_brain_folder",
    "cityscapes": "simulated_cityscapes_folder",
    "kits": "simulated_kidney_folder",
    "lidc": "lidc.simulated_lidc_folder",
    "lidc_3d": "lidc.simulated_lidc_folder",
    "prostatex": "simulated_prostate_folder",
}
LIDC_180 = ("simulated_180", 2, None, 180, 0.5, None)


def differing(task: str) -> list[dict[str, Any]]:
    """Ids that make other simulated data, of a bundle's home task."""
    if task.startswith("lidc"):
        return []
    return [{"simulated_scenes": 5}] if task == "cityscapes" else [{"simulated_patients": 5}, {"seed": 7}]


@pytest.mark.parametrize("name", [name for name in NAMES if not HOME_TASK[name].startswith("lidc")])
@pytest.mark.parametrize("overlay", [None, "inference"])
def test_other_simulated_data_have_a_folder_of_their_own(tmp_path, monkeypatch, name, overlay) -> None:
    """A run that reads the ones is not disturbed by a run that asks for the others."""
    asked = asked_for(monkeypatch, HOME_TASK[name])
    for ids in [{}, *differing(HOME_TASK[name])]:
        parser = ConfigParser(
            load(BUNDLES / name / f"{overlay or 'train'}.json") | ids | {"bundle_root": str(tmp_path)}
        )
        assert parser.get_parsed_content("dataset_dir") == "folder"
    folders = [folder for folder, *_ in asked]
    assert len(set(folders)) == len(folders) == 1 + len(differing(HOME_TASK[name]))


def asked_for(monkeypatch: pytest.MonkeyPatch, task: str) -> list[tuple]:
    """What the task's simulated folder is asked for."""
    asked: list[tuple] = []
    monkeypatch.setattr(f"monai_stochseg.data.{FOLDERS[task]}", lambda *args: asked.append(args) or "folder")
    return asked


@pytest.mark.parametrize("name", NAMES)
def test_the_default_data_are_simulated(tmp_path, monkeypatch, name) -> None:
    asked = asked_for(monkeypatch, HOME_TASK[name])
    root = str(tmp_path / "bundles" / name)
    runs: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), {}), (("paper",), {})]
    if name in LIDC:
        runs.insert(1, ((), {"spatial_dims": 3}))
    for overlays, ids in runs:
        workflow = make_workflow(name, *overlays, bundle_root=root, output_dir=str(tmp_path), **ids)
        assert workflow.parser.get_parsed_content("dataset_dir") == "folder"
    found = [(Path(folder).name, *args) for folder, *args in asked]
    if name in LIDC:
        assert found == [("simulated_2d", 2), ("simulated_3d", 3), LIDC_180]
    if name == "msvls_lidc":
        assert found == [("simulated_3d_120", 3, 120, 24, 1.0), ("simulated_90", 3, None, 90, 1.0)]
    if name == "mose_cityscapes":
        assert [folder for folder, *_ in found] == ["64_200", "256_400"]
        assert [size for _, _, size, _ in found] == [[64, 128], [256, 512]]
    home = tmp_path / "bundles" / ("lidc_data" if name.endswith("_lidc") else name)
    for folder, *_ in asked:
        assert home in Path(folder).resolve().parents


@pytest.mark.parametrize("task", list(TASKS))
def test_the_data_of_an_overlay_are_simulated_beside_the_bundles(tmp_path, monkeypatch, task) -> None:
    """So that the methods share them; the output is each bundle's own."""
    asked = asked_for(monkeypatch, task)
    parser = make_workflow("mose_lidc", f"tasks/{task}", bundle_root=str(tmp_path / "bundles" / "mose_lidc")).parser
    assert parser.get_parsed_content("dataset_dir") == "folder"
    ((folder, *_),) = asked
    assert f"{task.split('_')[0]}_data" in Path(folder).resolve().relative_to(tmp_path / "bundles").parts
    assert parser.get_parsed_content("output_dir") == str(tmp_path / "bundles" / "mose_lidc" / f"output_{task}")


@pytest.mark.parametrize("name", ["svls_brats", "svls_kits", "svls_prostatex"])
def test_the_default_data_fill_the_field_of_view(tmp_path, name) -> None:
    """Every class lies in the centre that the network sees, and its size suits the strides."""
    root = {"bundle_root": str(tmp_path), "simulated_patients": 6, "output_dir": str(tmp_path / "output")}
    parser = make_workflow(name, target="onehot", **root).parser
    dataset, roi_size = (parser.get_parsed_content(key) for key in ("train#dataset", "roi_size"))
    assert len(dataset) == 6 - 2
    found = [case["label"].flatten(1).any(1) for case in dataset]
    assert torch.stack(found).any(0).all()
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        logits = network(dataset[0]["image"].as_tensor()[None])
    assert logits.shape == (1, parser.get_parsed_content("task").num_classes, *roi_size)


@pytest.mark.parametrize("name", NAMES)
def test_every_id_of_the_readme_is_one(name) -> None:
    """In the tables of ids and the options of the commands, under the configuration files."""
    readme = (BUNDLES / name / "README.md").read_text()
    named = sorted(set(re.findall(r"bundles/(tasks/\w+)\.json", readme)))
    files = [*config_files(name, "evaluate", "inference", "paper", *named)]
    program = ["monai/bundle/__main__.py", "run", "--config_file", repr(files)]
    tables = re.findall(r"^\| ids? \|.*\n((?:\|.*\n)*)", readme, re.MULTILINE)
    rows = [line.split("|")[1] for rows in tables for line in rows.splitlines()]
    ids = {found for row in rows for found in re.findall(r"`([^`]+)`", row)}
    options = set(re.findall(r"--([a-z_#]+) ", readme)) - {"standalone", "nproc_per_node", "config_file", "m"}
    options -= {"out", "names"}  # of the package's own commands
    assert ids
    for each in ids | options:
        check_overrides([*program, f"--{each}", "1"])
    config = {key for file in files[:3] for key in load(Path(file)) if "#" not in key}
    assert config - COMPONENTS <= ids


@pytest.mark.parametrize("name", NAMES)
def test_metadata_hold_what_is_the_methods_own(name) -> None:
    versions = ["version", "monai_version", "pytorch_version", "numpy_version"]
    metadata, common = load(BUNDLES / name / "metadata.json"), load(BUNDLES / "metadata.json")
    assert list(metadata) == [*versions, "name", "task", "description", "references"]
    assert {key: metadata[key] for key in versions} == {key: common[key] for key in versions}


@pytest.mark.parametrize("method", ["ssn", "ssn_unet", "threshold", "independent", "dropout"])
def test_torchscript_export(folders, tmp_path, method) -> None:
    name, ids, _ = METHODS[method]
    task = HOME_TASK[name]
    ids = {**ids, "dataset_dir": folders[task]}
    network = make_workflow(name, **ids, output_dir=str(tmp_path)).parser.get_parsed_content("network_def").eval()
    torch.save({"network": network.state_dict()}, tmp_path / "model.pt")
    image = torch.rand(2, 4, 16, 16, 16) if task == "brats" else torch.rand(2, 1, 20, 12)
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(BUNDLES / name / "metadata.json"),
        config_file=str(BUNDLES / name / "train.json"),
        key_in_ckpt="network",
        input_shape=[1, *image.shape[1:]],
        **ids,
    )
    torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.ts"))(image), network(image))


def test_a_gpu_keeps_cudnn_benchmark(folders, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    options = at_home("ssn_brats", folders, str(tmp_path), device="$torch.device('cuda', 0)")
    make_workflow("ssn_brats", **options)
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_classes_have_their_names_in_the_data(folders, tmp_path) -> None:
    """The order of a task's classes is that of the labels."""
    expected = {
        "ssn_brats": list(BRATS_CLASSES),
        "mose_cityscapes": list(CITYSCAPES_SWITCHED_CLASSES),
        "svls_prostatex": ["background", *PROSTATE_ZONES],
    }
    for name, classes in expected.items():
        parser = make_workflow(name, **at_home(name, folders, str(tmp_path))).parser
        assert list(parser.get_parsed_content("task").class_names) == classes
