# SPDX-License-Identifier: Apache-2.0
"""The LIDC bundles end to end, their sizes overridden to seconds."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import TORCHRUN, command, first_cause, make_workflow, run_command, run_workflow
from disc_crops import disc_crops
from monai.bundle import ckpt_export, verify_net_in_out

from monai_stochseg.bundle import check_overrides
from monai_stochseg.data import CaseError, crops_datalist, load_manifest, prepare_lidc
from monai_stochseg.data.lidc import write_crops

BUNDLES = ("ssn_lidc", "probunet_lidc", "mose_lidc", "baselines_lidc")
TINY = {
    "channels": [2, 4],
    "max_epochs": 2,
    "val_interval": 1,
    "images_per_epoch": 4,
    "batch_size": 2,
    "eval_samples": 3,
}
SSN = {"rank": 2, "num_samples": 3, "pretrain_epochs": 1}
PROBUNET = {"latent_dim": 2}
MOSE = {"num_experts": 3, "num_samples": 1}
METHODS = [
    ("ssn_lidc", SSN),
    ("ssn_lidc", {**SSN, "diagonal": True}),
    ("probunet_lidc", PROBUNET),
    ("mose_lidc", {**MOSE, "one_rater": True}),
    ("mose_lidc", {**MOSE, "representation": "compact", "share_threshold": [[1, 0.9]]}),
    *(
        ("baselines_lidc", {"method": method, "num_hypotheses": 2})
        for method in ("deterministic", "threshold", "independent", "dropout", "ensemble", "mheads", "image2image_vae")
    ),
]
# Ids that are components or commands, and no settings.
INTERNAL = {
    *("imports", "bundle_root", "distributed", "network_def", "network", "loss", "baseline", "handlers"),
    *("class_names", "padding", "label_target"),
    *("calibration", "discriminator_def", "discriminator", "calibrate", "refine"),
    *("train", "validate", "predictor", "initialize", "run", "finalize"),
}
SCAN = "LIDC-IDRI-0003"


@pytest.fixture(scope="module")
def bundles(repository) -> Path:
    return repository / "bundles"


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def runs(output: str, experiment: str) -> list:
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "ids"), METHODS)
def test_train_evaluate_and_infer(bundles, lidc_crops, make_output, name, ids):
    output = make_output()
    options = {**TINY, **ids, "dataset_dir": lidc_crops[2], "output_dir": output}
    run_workflow(bundles / name, **options)
    (run,) = runs(output, name)
    assert run.info.status == "FINISHED"
    assert run.data.params["manifest"] == load_manifest("kohl").id
    assert run.data.metrics.keys() >= {"train_loss", "val_ged", "val_diversity", "val_hm_iou", "val_dice"}
    assert ("kl" in run.data.metrics) == (name == "probunet_lidc" or ids.get("method") == "image2image_vae")
    assert run.data.params["simulated"] == "True"
    assert (Path(output) / "samples.png").read_bytes()[:4] == b"\x89PNG"

    run_workflow(bundles / name, "evaluate.json", **options)
    rows = table(Path(output) / "evaluation_test.csv")
    test = load_manifest("kohl").parts["test"][:2]
    assert [row["case"] for row in rows] == [*(f"{patient}_{i}" for patient in test for i in range(2)), "mean"]
    assert rows[0].keys() == {"case", "ged", "diversity", "hm_iou", "dice"}
    assert (Path(output) / "samples_test.png").is_file()

    run_workflow(bundles / name, "inference.json", **options, **{"predictor#max_crops": 1})
    case = crops_datalist(lidc_crops[2])[0]["name"]
    for kind, samples in {"mode": 1, "samples": 3, "entropy": 1}.items():
        image = nib.load(Path(output) / "predictions" / f"{case}_{kind}.nii.gz")
        assert image.shape == (16, 16, 1, samples)
        assert image.get_data_dtype() == (np.float32 if kind == "entropy" else np.uint8)
        np.testing.assert_allclose(np.abs(image.affine.diagonal()), [0.5, 0.5, 1, 1])
    assert len(list((Path(output) / "predictions").iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "ids"), [METHODS[0], METHODS[2], METHODS[4], ("baselines_lidc", {"method": "dropout"})]
)
def test_volumes_by_one_id(bundles, lidc_crops, make_output, name, ids):
    output = make_output()
    options = {**TINY, **ids, "dataset_dir": lidc_crops[3], "output_dir": output, "spatial_dims": 3}
    run_workflow(bundles / name, **options, **{"validate#evaluator#metrics": ["ged"]})
    run_workflow(bundles / name, "inference.json", **options, **{"predictor#max_crops": 1})
    case = crops_datalist(lidc_crops[3])[0]["name"]
    for kind, samples in {"mode": (), "samples": (3,), "entropy": ()}.items():
        assert nib.load(Path(output) / "predictions" / f"{case}_{kind}.nii.gz").shape == (12, 12, 12, *samples)


@pytest.mark.parametrize(("name", "ids"), [METHODS[0], ("probunet_lidc", {**PROBUNET, "target_reconstruction": 10.0})])
def test_a_resumed_run_ends_as_an_uninterrupted_one(bundles, lidc_crops, make_output, name, ids):
    def train(output: str, **override: object) -> dict[str, torch.Tensor]:
        options = {**TINY, **ids, "val_interval": 10, "output_dir": make_output(output), **override}
        workflow = run_workflow(bundles / name, dataset_dir=lidc_crops[2], **options)
        network, loss = (workflow.parser.get_parsed_content(part) for part in ("network_def", "loss"))
        return {**network.state_dict(), **loss.state_dict()}

    whole = train("whole", max_epochs=4)
    train("parts", max_epochs=2, **{"lr_scheduler#total_iters": 4})
    resumed = train("parts", max_epochs=4, resume=True)
    assert ("log_multiplier" in whole) == ("target_reconstruction" in ids)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


def test_two_processes(bundles, lidc_crops, make_output, tmp_path):
    output = make_output()
    options = {**TINY, **PROBUNET, "target_reconstruction": 10.0, "device": "$torch.device('cpu')"}
    args = command(
        bundles / "probunet_lidc",
        "multi_gpu_train.json",
        dataset_dir=lidc_crops[2],
        output_dir=output,
        **options,
        **{"train#trainer#amp": False},
    )
    done = run_command([*TORCHRUN, *args], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum("Metrics --" in line for line in done.stdout.splitlines() if "val_ged" in line) == 3  # one prints
    assert not any(
        key.startswith("module.") for key in torch.load(Path(output) / "model_best.pt", weights_only=True)["network"]
    )
    assert len(runs(output, "probunet_lidc")) == 1  # one logs


@pytest.mark.parametrize(
    ("name", "ids"), [METHODS[0], METHODS[2], METHODS[3], ("baselines_lidc", {"num_hypotheses": 2})]
)
def test_the_published_recipe_runs_small(bundles, lidc_crops, make_output, name, ids):
    """paper.json with a thin network and crops of 12 out of 16."""
    output = make_output()
    paper = load(bundles / name / "paper.json")
    small = {"channels": [2] * len(paper["channels"]), "crop_size": [12, 12], "train#trainer#num_workers": 0}
    options = {**TINY, **ids, **small, "dataset_dir": lidc_crops[2], "output_dir": output}
    workflow = run_workflow(bundles / name, "paper.json", **options)
    assert (Path(output) / "model_best.pt").is_file()
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    assert evaluator.data_loader.dataset[0]["label"].shape == (4, 12, 12)


@pytest.mark.parametrize("name", ["ssn_lidc", "probunet_lidc"])
def test_the_recipes_augmentation_moves_image_and_masks_together(bundles, make_output, tmp_path, name):
    """The image shows what the first reader drew; the masks of all readers stay masks."""
    write_crops(disc_crops(2, 180), tmp_path / "crops", {})
    options = {
        "dataset_dir": str(tmp_path / "crops"),
        "output_dir": make_output(),
        "channels": [2, 2],
        "train#trainer#num_workers": 0,
    }
    workflow = make_workflow(bundles / name, "paper.json", **options)
    dataset = workflow.parser.get_parsed_content("train#trainer").data_loader.dataset
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


@pytest.mark.parametrize("name", BUNDLES)
def test_the_published_recipe_is_the_papers(bundles, name):
    config = load(bundles / name / "train.json") | load(bundles / name / "paper.json")
    assert config["crop_size"] == [128, 128]
    length = tuple(config[name] for name in ("max_epochs", "images_per_epoch", "batch_size"))
    thin = {"channels": [2], "num_hypotheses": 2} if "num_hypotheses" in config else {"channels": [2]}
    parser = make_workflow(bundles / name, "paper.json", **thin).parser
    optimizer, schedule = (parser.get_parsed_content(part) for part in ("optimizer", "lr_scheduler"))
    assert type(optimizer) is torch.optim.Adam
    rates = [schedule.get_last_lr()[0]]
    for _ in range(config["max_epochs"] - 1):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    if name == "ssn_lidc":
        assert (length, config["manifest"]) == ((500, 12_000, 12), "phiseg")
        assert (config["channels"], config["norm"]) == ([32, 64, 128, 192, 192, 192, 192], "BATCH")
        assert (config["rank"], config["num_samples"]) == (10, 20)
        assert (config["covariance_init"], config["pretrain_epochs"]) == (None, 0)
        assert set(rates) == {1e-3}
    elif name == "mose_lidc":
        assert (length, config["manifest"]) == ((200, None, 16), "phiseg")
        assert (config["channels"], config["norm"]) == ([32, 64, 128, 192, 192, 192, 192], "BATCH")
        assert (config["num_experts"], config["num_samples"], config["latent_dim"]) == (4, 4, 1)
        assert optimizer.param_groups[0]["weight_decay"] == 1e-5
        np.testing.assert_allclose(rates, 1e-3 * np.linspace(1, 1 / 200, 200))
    else:
        assert (length, config["manifest"]) == ((240, 32_000, 32), "kohl")
        assert (config["channels"], config["norm"]) == ([32, 64, 128, 192], None)
        assert optimizer.param_groups[0]["weight_decay"] == 1e-5
        np.testing.assert_allclose([rates[0], rates[-1]], [1e-4, 1e-6])
        assert len(set(rates)) == 6


@pytest.mark.parametrize(("method", "rate"), [("image2image_vae", 1e-3), ("ensemble", 3e-3)])
def test_the_published_rate_wins_over_that_of_the_method(bundles, method, rate):
    for overlays, expected in (((), rate), (("paper.json",), 1e-4)):
        parser = make_workflow(
            bundles / "baselines_lidc", *overlays, method=method, channels=[2, 4], num_hypotheses=2
        ).parser
        assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == expected


@pytest.mark.parametrize("overlays", [(), ("paper.json",)])
@pytest.mark.parametrize(("one_rater", "raters", "beta"), [(False, 4, 1.0), (True, 1, 10.0)])
def test_one_annotation_by_one_id(bundles, lidc_crops, make_output, overlays, one_rater, raters, beta):
    """Training sees one reader or all of them, validation all."""
    small = {"channels": [2, 4], "crop_size": [12, 12], "train#trainer#num_workers": 0}
    options = {**small, "dataset_dir": lidc_crops[2], "output_dir": make_output(), "one_rater": one_rater}
    parser = make_workflow(bundles / "mose_lidc", *overlays, **options).parser
    trainer, evaluator = (parser.get_parsed_content(name) for name in ("train#trainer", "validate#evaluator"))
    assert trainer.data_loader.dataset[0]["label"].shape[0] == raters
    assert evaluator.data_loader.dataset[0]["label"].shape[0] == 4
    assert trainer.loss_function.beta == beta


@pytest.mark.parametrize("name", [*BUNDLES, "car_lidc"])
def test_the_default_data_are_simulated(bundles, tmp_path, monkeypatch, name):
    asked = []
    monkeypatch.setattr("monai_stochseg.data.simulated_lidc_folder", lambda *args: asked.append(args) or "folder")
    root = str(tmp_path / "bundles" / name)
    for overlays, ids in (((), {}), ((), {"spatial_dims": 3}), (("paper.json",), {})):
        workflow = make_workflow(bundles / name, *overlays, bundle_root=root, **ids)
        assert workflow.parser.get_parsed_content("dataset_dir") == "folder"
    assert [(Path(folder).name, *args) for folder, *args in asked] == [
        ("simulated_2d", 2),
        ("simulated_3d", 3),
        ("simulated_180", 2, None, 180, 0.5, None),
    ]
    assert {Path(folder).parent.resolve() for folder, *_ in asked} == {tmp_path / "bundles" / "lidc_data"}


def test_simulated_patients(few_scans, bundles, make_output, manifest):
    output = make_output()
    dataset = "$monai_stochseg.data.simulated_lidc_folder(@output_dir + '/data', @spatial_dims, 3, @size)"
    own = manifest(load_manifest("kohl").parts["train"])
    with pytest.raises(CaseError, match="is not in the manifest own-"), first_cause():
        run_workflow(
            bundles / "ssn_lidc", **{**TINY, **SSN}, dataset_dir=dataset, output_dir=output, size=16, manifest=own
        )
    patients = {case["patient"] for case in crops_datalist(Path(output) / "data")}
    options = {"dataset_dir": f"{output}/data", "output_dir": output, "manifest": manifest(sorted(patients))}
    run_workflow(bundles / "ssn_lidc", **{**TINY, **SSN}, **options, **{"validate#evaluator#part": "train"})
    assert len(patients) == 3


def test_a_real_scan(few_scans, real_data, bundles, make_output, manifest, tmp_path):
    """One patient, in train of a manifest of one's own, with validation and evaluation on train."""
    dicom_dir = real_data / "lidc" / "dicom"
    crops = prepare_lidc(dicom_dir, tmp_path / "crops", spatial_size=32, spacing=1.0, missing="skip", progress=False)
    output = make_output()
    options = {**TINY, **PROBUNET, "dataset_dir": crops, "output_dir": output, "manifest": manifest([SCAN])}
    run_workflow(bundles / "probunet_lidc", **options, **{"validate#evaluator#part": "train"})
    assert runs(output, "probunet_lidc")[0].data.params["manifest"] == load_manifest(options["manifest"]).id
    run_workflow(bundles / "probunet_lidc", "evaluate.json", **options, part="train")
    assert len(table(Path(output) / "evaluation_train.csv")) == 30 + 1


def test_a_split_that_came_with_the_data(bundles, make_output, tmp_path):
    write_crops(disc_crops(2, 8, came_split=True), tmp_path / "crops", {})
    options = {**TINY, **SSN, "dataset_dir": str(tmp_path / "crops"), "output_dir": make_output(), "manifest": None}
    run_workflow(bundles / "ssn_lidc", **options)
    run_workflow(bundles / "ssn_lidc", "evaluate.json", **options)
    assert len(table(tmp_path / "output" / "evaluation_test.csv")) == 4 + 1


@pytest.mark.parametrize(
    ("name", "override", "error", "message"),
    [
        ("baselines_lidc", {"method": "magic"}, ValueError, "method must be one of deterministic, .* got 'magic'"),
        ("baselines_lidc", {"manifest": "koala"}, CaseError, "'koala' is none of .*'kohl'.* and no file"),
        ("baselines_lidc", {"manifest": None}, CaseError, "came without a split: give a manifest, one of"),
        (
            "baselines_lidc",
            {"dataset_dir": "no_folder"},
            CaseError,
            r"no_folder holds no crops \(crops.json\)",
        ),
        ("baselines_lidc", {"spatial_dims": 3}, CaseError, "holds 2D crops, but spatial_dims is 3"),
        ("baselines_lidc", {"validate#evaluator#part": "tests"}, CaseError, "part must be one of .* got 'tests'"),
        ("baselines_lidc", {"validate#evaluator#metrics": ["geed"]}, ValueError, r"names must be of .* got \['geed'\]"),
        ("baselines_lidc", {"method": "mheads", "num_hypotheses": 1}, ValueError, "at least 2 heads, got 1"),
        ("ssn_lidc", {"rank": 0}, ValueError, "rank must be at least 1, got 0"),
        ("mose_lidc", {"num_experts": 0}, ValueError, "num_experts must be at least 1, got 0"),
        ("mose_lidc", {"representation": "compact"}, ValueError, "16 in all: n=3 must be that"),
        ("probunet_lidc", {"beta": []}, ValueError, "points must be pairs"),
        ("probunet_lidc", {"target_reconstruction": -1}, ValueError, "target_reconstruction must be positive"),
    ],
)
def test_bad_input_is_one_line(bundles, lidc_crops, make_output, name, override, error, message):
    options = {**TINY, "dataset_dir": lidc_crops[2], "output_dir": make_output(), **override}
    with pytest.raises(error, match=f"^.*{message}.*$"), first_cause():
        run_workflow(bundles / name, **options)
    assert not list(Path(options["output_dir"]).glob("*.pt"))


def test_an_empty_part_is_named(bundles, lidc_crops, make_output, manifest):
    own = manifest([case["patient"] for case in crops_datalist(lidc_crops[2])][::2])
    options = {**TINY, "dataset_dir": lidc_crops[2], "output_dir": make_output(), "manifest": own}
    with pytest.raises(CaseError, match=r"^part 'validation' is empty: .*own\.json has none"), first_cause():
        run_workflow(bundles / "ssn_lidc", **options)


def test_evaluation_before_training_is_one_line(bundles, lidc_crops, tmp_path):
    options = {**TINY, "dataset_dir": lidc_crops[2], "output_dir": str(tmp_path)}
    for overlay in ("evaluate.json", "inference.json"):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*train first"), first_cause():
            run_workflow(bundles / "ssn_lidc", overlay, **options)


@pytest.mark.parametrize("name", [*BUNDLES, "car_lidc", "msvls_lidc"])
def test_every_id_of_the_readme_is_one(bundles, name):
    """Ids of the tables and options of the commands, under their configuration files."""
    readme = (bundles / name / "README.md").read_text()
    files = [str(bundles / name / f"{file}.json") for file in ("train", "evaluate", "inference", "paper")]
    program = ["monai/bundle/__main__.py", "run", "--config_file", repr(files)]
    rows = [line.split("|")[1] for line in readme.split("## Ids")[1].splitlines() if line.startswith("| `")]
    ids = {found for row in rows for found in re.findall(r"`([^`]+)`", row)}
    options = set(re.findall(r"--([a-z_#]+) ", readme)) - {"standalone", "nproc_per_node", "config_file", "m"}
    assert ids
    for each in ids | options:
        check_overrides([*program, f"--{each}", "1"])
    config = {key for file in ("train.json", "evaluate.json", "inference.json") for key in load(bundles / name / file)}
    settings = {key for key in config if "#" not in key} - INTERNAL
    assert settings <= ids


@pytest.mark.parametrize(
    ("name", "ids"),
    [("ssn_lidc", {}), *(("baselines_lidc", {"method": m}) for m in ("threshold", "independent", "dropout"))],
)
def test_monai_commands(bundles, tmp_path, name, ids):
    """MONAI's own checks and TorchScript export."""
    meta, config = str(bundles / name / "metadata.json"), str(bundles / name / "train.json")
    verify_net_in_out("network_def", meta_file=meta, config_file=config, n=16, device="cpu", **ids)
    network = make_workflow(bundles / name, **ids).parser.get_parsed_content("network_def").eval()
    torch.save({"network": network.state_dict()}, tmp_path / "model.pt")
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=meta,
        config_file=config,
        key_in_ckpt="network",
        input_shape=[1, 1, 16, 16],
        **ids,
    )
    image = torch.rand(2, 1, 20, 12)
    torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.ts"))(image), network(image))


@pytest.mark.parametrize("name", [*BUNDLES, "car_lidc", "msvls_lidc"])
def test_metadata_are_complete(bundles, name):
    meta, template = (load(bundles / each / "metadata.json") for each in (name, "ssn_brats"))
    assert meta.keys() == template.keys()
    output = meta["network_data_format"]["outputs"]["pred"]
    assert len(output["channel_def"]) == output["num_channels"]
