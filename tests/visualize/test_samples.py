# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

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
