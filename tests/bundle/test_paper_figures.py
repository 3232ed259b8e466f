# SPDX-License-Identifier: Apache-2.0
"""Figures of the papers that an evaluation, or a command of a bundle, makes of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_runs import first_cause, make_workflow, run_workflow, table
from tiny import METHODS, RUN, TASKS

from monai_stochseg.bundle import latent_figure
from monai_stochseg.data import CaseError
from monai_stochseg.visualize import plot_latent_modes

PNG = b"\x89PNG"


@pytest.fixture
def probunet(folders, make_output) -> dict[str, Any]:
    """The options of a Probabilistic U-Net that is trained on LIDC."""
    options = {
        **RUN,
        **METHODS["probunet"].ids,
        "max_epochs": 1,
        "dataset_dir": folders["lidc"],
        "output_dir": make_output(),
    }
    run_workflow("probunet_lidc", **options)
    return options


def test_the_threshold_of_ambiguity_is_fitted_on_validation_and_applied_on_test(probunet) -> None:
    """Asked for before it is fitted, it is an error of one line."""
    output = Path(probunet["output_dir"])
    asked = {"validate#evaluator#metrics": "$[*@task.evaluation_metric_names, 'ambiguity_fitted']"}
    with pytest.raises(CaseError, match=r"ambiguity_validation.csv, which is missing: evaluate with"), first_cause():
        run_workflow("probunet_lidc", "evaluate", **probunet, **asked)
    run_workflow("probunet_lidc", "evaluate", **probunet, part="validation")
    fitted = table_of_threshold(output)
    assert 0 <= fitted["threshold"] < 0.5
    rows = table(output / "evaluation_validation.csv")
    assert fitted["cases"] == len(rows) - 2  # the mean and its error
    assert fitted["accuracy"] >= float(rows["mean"]["ambiguity"])
    run_workflow("probunet_lidc", "evaluate", **probunet, **asked)
    assert 0 <= float(table(output / "evaluation_test.csv")["mean"]["ambiguity_fitted"]) <= 1
    for part in ("validation", "test"):
        assert (output / f"ambiguity_{part}.png").read_bytes()[:4] == PNG
    assert not (output / "ambiguity_test.csv").exists()


def table_of_threshold(output: Path) -> dict[str, float]:
    heading, values = ((output / "ambiguity_validation.csv").read_text()).split()
    return dict(zip(heading.split(","), map(float, values.split(",")), strict=True))


def test_the_latent_plane_of_readers_by_a_command(probunet) -> None:
    make_workflow("probunet_lidc", "evaluate", **probunet).parser.get_parsed_content("latent_figure")
    assert (Path(probunet["output_dir"]) / "latent_test.png").read_bytes()[:4] == PNG
    wrong = make_workflow("probunet_lidc", "evaluate", **probunet, latent_dims=[0, 2])
    with pytest.raises(ValueError, match="dims must be two of the 2 dimensions"), first_cause():
        wrong.parser.get_parsed_content("latent_figure")
    with pytest.raises(ValueError, match="checkpoint must be given"), first_cause():
        make_workflow("probunet_lidc", **probunet).parser.get_parsed_content("latent_figure")


def test_the_latent_plane_of_modes_by_a_command(folders, make_output, monkeypatch) -> None:
    """The 32 modes of streets, by the colours of their 24 classes; here of a latent of more than two dimensions."""
    options = {**RUN, **TASKS["cityscapes"], **METHODS["probunet"].ids, "latent_dim": 3}
    options |= {"dataset_dir": folders["cityscapes"], "output_dir": make_output(), "max_epochs": 1}
    run_workflow("probunet_lidc", "tasks/cityscapes", **options)
    drawn: dict[str, Any] = {}

    def draw(network, image, modes, distance, dims, grid, **kwargs):
        drawn.update(modes=modes, dims=list(dims), **kwargs)
        return plot_latent_modes(network, image, modes, distance, dims, 3, **kwargs)

    monkeypatch.setattr(latent_figure, "plot_latent_modes", draw)
    ids = {**options, "latent_dims": [2, 0]}
    make_workflow("probunet_lidc", "tasks/cityscapes", "evaluate", **ids).parser.get_parsed_content("latent_figure")
    assert drawn["modes"].shape == (32, 32, 64)
    assert (drawn["dims"], len(drawn["colours"]), drawn["title"]) == ([2, 0], 24, "simulated streets")
    assert (Path(options["output_dir"]) / "latent_test.png").read_bytes()[:4] == PNG


@pytest.mark.parametrize("rater", [0, [0, 1]])
def test_one_reader_or_a_pair_teaches_and_is_judged_against_each(folders, make_output, rater) -> None:
    output = Path(make_output())
    options = {**RUN, **METHODS["msvls"].ids, "dataset_dir": folders["lidc_3d"], "output_dir": str(output)}
    options |= {"max_epochs": 1, "rater": rater}
    parser = run_workflow("msvls_lidc", **options).parser
    task, dataset = (parser.get_parsed_content(name) for name in ("task", "train#dataset"))
    taught = [case for case in task.cases("train") if any(case["drawn"][i] for i in ([0, 1] if rater else [0]))]
    assert len(dataset) == len(taught)
    run_workflow("msvls_lidc", "evaluate", **options)
    row = table(output / "evaluation_test.csv")["mean"]
    assert {f"{kind}_rater{i}" for kind in ("ece", "tace", "tace_svls") for i in range(4)} <= row.keys()
    assert 0 <= float(row["ece_rater0"]) <= 1
    assert (output / "reliability_test.csv").is_file()
    with pytest.raises(ValueError, match="rater must be one of the raters 0 to 3 of task LIDC"), first_cause():
        run_workflow("msvls_lidc", **{**options, "rater": 4})
