# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_stochseg.distributions import LowRankNormal
from monai_stochseg.visualize import plot_scaled_samples


def normal(*shape: int, batch: int = 1) -> LowRankNormal:
    torch.manual_seed(0)
    return LowRankNormal(
        torch.randn(batch, 3, *shape), 2 * torch.randn(batch, 2, 3, *shape), torch.full((batch, 3, *shape), -20.0)
    )


def drawn(figure, row: int, column: int, columns: int) -> np.ndarray:
    """What lies over the image, as whether a class other than the background is there."""
    return np.asarray(figure.axes[row * columns + column].images[1].get_array())[..., 3] > 0


@pytest.mark.parametrize("shape", [(8, 7), (8, 7, 5)])
def test_rows_and_columns(tmp_path, shape):
    figure = plot_scaled_samples(torch.zeros(2, *shape), normal(*shape), (-1, 0, 3), ["none", "a", "b"], num_ranks=2)
    assert [ax.get_title() for ax in figure.axes[:3]] == ["-1", "0", "3"]
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == ["all", "a", "b", "rank 1", "rank 2"]
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_one_sample_is_scaled():
    """At 0 it is the mean, at 1 the sample itself in every row, and the sign mirrors it."""
    distribution = normal(8, 7)
    figure = plot_scaled_samples(torch.zeros(1, 8, 7), distribution, (-1, 0, 1), num_ranks=1, indexing="ij")
    mode = distribution.mode_logits()[0].argmax(0) > 0
    assert (drawn(figure, 0, 1, 3) == mode.numpy()).all()
    sample = distribution.sample_logits(1, torch.Generator().manual_seed(0))[0, 0]
    mirrored = 2 * distribution.mean[0] - sample
    for row in range(4):
        assert (drawn(figure, row, 2, 3) == (sample.argmax(0) > 0).numpy()).all()
    assert (drawn(figure, 0, 0, 3) == (mirrored.argmax(0) > 0).numpy()).all()
    for row, c in ((1, 1), (2, 2)):  # one class alone
        one = torch.where((torch.arange(3) == c)[:, None, None], mirrored, sample)
        assert (drawn(figure, row, 0, 3) == (one.argmax(0) > 0).numpy()).all()
        assert not torch.equal(one.argmax(0) > 0, sample.argmax(0) > 0)
    first = distribution.scaled(rank_scale=[-1.0, 1.0]).sample_logits(1, torch.Generator().manual_seed(0))[0, 0]
    assert (drawn(figure, 3, 0, 3) == (first.argmax(0) > 0).numpy()).all()
    assert not torch.equal(first.argmax(0) > 0, sample.argmax(0) > 0)


def test_refuses():
    with pytest.raises(ValueError, match=r"must be that of image .* alone"):
        plot_scaled_samples(torch.zeros(1, 8, 7), normal(8, 7, batch=2))
    with pytest.raises(ValueError, match=r"must be that of image .* alone"):
        plot_scaled_samples(torch.zeros(1, 8, 8), normal(8, 7))
    with pytest.raises(ValueError, match=r"num_ranks must lie in \[0, 2\], got 3"):
        plot_scaled_samples(torch.zeros(1, 8, 7), normal(8, 7), num_ranks=3)
