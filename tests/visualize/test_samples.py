# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_stochseg.distributions import with_weights
from monai_stochseg.visualize import plot_samples


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 6)])
@pytest.mark.parametrize("raters", [None, 4])
def test_panels(tmp_path, shape, raters):
    samples = torch.randint(0, 3, (5, *shape))
    label = None if raters is None else torch.randint(0, 3, (raters, *shape))
    figure = plot_samples(
        torch.randn(2, *shape), samples, torch.rand(3, *shape).softmax(0), label, ["none", "a", "b"], max_samples=3
    )
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    expected = ["image", *[f"rater {i + 1}" for i in range(raters or 0)], "mean prediction", "entropy"]
    assert titles == [*expected, "sample 1", "sample 2", "sample 3"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b"]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_title():
    case = torch.zeros(1, 4, 4), torch.zeros(2, 4, 4), torch.full((2, 4, 4), 0.5)
    assert plot_samples(*case, title="simulated CT").get_suptitle() == "simulated CT"
    assert plot_samples(*case).get_suptitle() == ""


def test_a_volume_is_shown_where_its_foreground_is():
    samples = torch.zeros(1, 6, 6, 5, dtype=torch.uint8)
    samples[..., 3] = 1
    image = torch.zeros(1, 6, 6, 5)
    image[..., 3] = 7
    figure = plot_samples(image, samples, torch.full((2, 6, 6, 5), 0.5))
    assert (figure.axes[0].images[0].get_array() == 7).all()


@pytest.mark.parametrize(
    ("image", "probabilities", "message"),
    [
        ((1, 4, 5), (2, 4, 4), "must share 2 or 3 spatial axes"),
        ((1, 4, 4), (20, 4, 4), "colours for 9 classes, got 20"),
    ],
)
def test_rejects(image, probabilities, message):
    with pytest.raises(ValueError, match=message):
        plot_samples(torch.zeros(image), torch.zeros(2, 4, 4), torch.zeros(probabilities))


@pytest.mark.parametrize("name", ["samples", "raters"])
def test_rejects_what_is_no_label_map(name):
    maps = {"samples": torch.zeros(2, 4, 4), "raters": torch.zeros(2, 4, 4)}
    maps[name][0, 0, 0] = 0.9999
    with pytest.raises(ValueError, match=f"{name} must hold integer class labels, got 0.9999"):
        plot_samples(torch.zeros(1, 4, 4), probabilities=torch.full((2, 4, 4), 0.5), **maps)


def test_a_calibration_output_between_the_means():
    samples, raters = torch.randint(0, 3, (8, 6, 5)), torch.zeros(4, 6, 5)
    raters[0, 0, 0], raters[1, 0, 0], raters[:, 1, 1] = 1, 255, 2
    p = torch.rand(3, 6, 5).softmax(0)
    colours = ["#00000000", "#ff0000", "#00ff00"]
    case = torch.zeros(1, 6, 5), samples, p, raters
    figure = plot_samples(*case, indexing="ij", max_samples=6, colours=colours, calibration=p.flip(0))
    panels = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    means = ["mean of raters", "calibration output", "mean of samples"]
    readers, drawn = ([f"{name} {i + 1}" for i in range(n)] for name, n in (("rater", 4), ("sample", 6)))
    assert list(panels) == ["image", *readers, *means, *drawn]
    shown = {name: panels[name].images[-1].get_array() for name in means}
    assert shown["mean of raters"][0, 0].tolist() == [1, 0.75, 0.75]  # a void label is of no class
    assert shown["mean of raters"][1, 1].tolist() == [0, 1, 0]
    np.testing.assert_allclose(shown["calibration output"][..., 0], 1 - p[0], atol=1e-6)
    np.testing.assert_allclose(shown["mean of samples"][..., 1], 1 - p[1], atol=1e-6)
    titles = [ax.get_title() for ax in plot_samples(*case[:3], calibration=p).axes]
    assert titles[:3] == ["image", *means[1:]]
    with pytest.raises(ValueError, match="must share 2 or 3 spatial axes"):
        plot_samples(*case, calibration=p[..., 1:])


def test_rows_downwards_or_as_a_nifti():
    image = torch.arange(12.0).reshape(1, 3, 4)
    samples, probabilities = torch.zeros(1, 3, 4), torch.full((2, 3, 4), 0.5)
    shown = plot_samples(image, samples, probabilities, indexing="ij").axes[0].images[0].get_array()
    assert shown.tolist() == image[0].tolist()
    shown = plot_samples(image, samples, probabilities).axes[0].images[0].get_array()
    assert shown.tolist() == image[0].T.flip(0).tolist()
    with pytest.raises(ValueError, match="yx"):
        plot_samples(image, samples, probabilities, indexing="yx")


def test_four_readers_of_a_nodule_and_sixteen_samples():
    raters, samples = torch.zeros(4, 8, 8), torch.zeros(16, 8, 8)
    raters[:2, 2:5, 2:5] = samples[:13, 2:6, 2:5] = 1
    p = samples.mean(0)
    figure = plot_samples(torch.randn(1, 8, 8), samples, torch.stack([1 - p, p]), raters, max_samples=16)
    empty = [ax.get_title() for ax in figure.axes if any(text.get_text() == "empty" for text in ax.texts)]
    assert empty == ["rater 3", "rater 4", "sample 14", "sample 15", "sample 16"]
    assert len([ax for ax in figure.axes if ax.get_subplotspec()]) == 3 * 8


def test_the_most_probable_samples_and_raters_come_first():
    image, probabilities = torch.zeros(1, 4, 4), torch.full((3, 4, 4), 1 / 3)
    samples, raters = torch.stack([torch.full((4, 4), float(c)) for c in range(3)]), torch.ones(5, 4, 4)
    raters[:, 0, 0] = 255
    figure = plot_samples(
        image,
        with_weights(samples, torch.tensor([0.3, 0.1, 0.6])),
        probabilities,
        with_weights(raters, torch.tensor([0.2, 0.1, 0.4, 0.3, 0.0])),
        max_samples=2,
        max_raters=1,
        colours=["red", "lime", "blue"],
    )
    panels = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    assert list(panels) == ["image", "rater 3: 40%", "mean prediction", "entropy", "sample 3: 60%", "sample 1: 30%"]
    assert panels["sample 3: 60%"].images[1].get_array()[0, 0].tolist() == [0, 0, 1, 0.75]  # blue
    assert panels["rater 3: 40%"].images[1].get_array()[..., 3].min() == 0  # void shows nothing
    assert not any(ax.texts for ax in figure.axes)  # no map is empty where class 0 has a colour
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["class 0", "class 1", "class 2"]
