# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from torch import nn

from monai_stochseg.metrics import LabelMapDistance
from monai_stochseg.networks.nets import ProbabilisticUNet
from monai_stochseg.visualize import plot_latent_modes

DISTANCE = LabelMapDistance(4)


class Quadrants(ProbabilisticUNet):
    """The left half is class 1, or 2 where dimension 0 is above the prior's mean; the right half 1 or 3 by the last."""

    mean, log_std = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[0.0, 1.0, 2.0]])

    def __init__(self, spatial_dims: int) -> None:
        super().__init__(spatial_dims, 1, 4, channels=(2, 2), latent_dim=3, core=nn.Identity(), feature_channels=1)

    def prior(self, x):
        return self.mean, self.log_std

    def decoder(self, x):
        def decode(z):
            assert z[0, 1] == self.mean[0, 1]
            labels = torch.ones(1, 1, *x.shape[2:])
            half = labels.shape[3] // 2
            first, last = (z - self.mean)[0, [0, 2]] > 0
            labels[:, :, :, :half] = 2 if first else 1
            labels[:, :, :, half:] = 3 if last else 1
            return (labels == torch.arange(4).reshape(1, 4, *[1] * (x.dim() - 2))).float()

        return decode


def modes(*shape: int) -> torch.Tensor:
    """Bit 0 is the left half, bit 1 the right one."""
    maps = torch.ones(4, *shape, dtype=torch.uint8)
    half = shape[1] // 2
    maps[1::2, :, :half] = 2
    maps[2:, :, half:] = 3
    return maps


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 4)])
def test_a_quadrant_of_the_plane_is_a_mode(tmp_path, shape) -> None:
    network = Quadrants(len(shape)).train()
    figure = plot_latent_modes(
        network, torch.randn(1, *shape), modes(*shape), DISTANCE, (0, 2), grid=4, title="streets"
    )
    plane = figure.axes[0]
    colours = np.array(colormaps["tab20"].colors)
    picture = np.asarray(plane.images[0].get_array())
    expected = [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2  # the second of dims goes up
    np.testing.assert_allclose(picture, colours[expected])
    assert plane.images[0].origin == "lower"
    numbers = {text.get_text(): text.get_position() for text in plane.texts}
    assert sorted(numbers) == ["0", "1", "2", "3"]
    for number, (x, y) in numbers.items():
        assert (x > 0, y > 0) == (int(number) % 2 == 1, int(number) > 1)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [f"mode {mode}: 25.0 %" for mode in range(4)]
    assert figure.get_suptitle() == "streets"
    assert network.training
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_shares_are_weighted_by_the_prior() -> None:
    """Of the latents -1, 0 and 1 along dimension 0, only 1 switches the left half."""
    figure = plot_latent_modes(Quadrants(2), torch.randn(1, 6, 8), modes(6, 8), DISTANCE, (0, 2), grid=3, extent=1.0)
    density = np.exp([-0.5, 0, -0.5])
    switched = density[2] / density.sum()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0] == f"mode 0: {100 * (1 - switched) ** 2:.1f} %"
    assert legend[-1] == f"mode 3: {100 * switched**2:.1f} %"


def test_many_classes_need_colours() -> None:
    network = ProbabilisticUNet(2, 1, 11, channels=(2, 4), latent_dim=2)
    given = {"image": torch.randn(1, 16, 16), "modes": torch.randint(11, (2, 16, 16)), "distance": LabelMapDistance(11)}
    with pytest.raises(ValueError, match="colours must be of 11 classes, got 9"):
        plot_latent_modes(network, **given, grid=2)
    plot_latent_modes(network, **given, grid=2, colours=["red", "#00ff00"] * 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": (0, 3)}, r"dims must be two of the 3 dimensions of the latent, got \(0, 3\)"),
        ({"grid": 1}, "grid must be at least 2, got 1"),
        ({"extent": 0.0}, "extent must be above 0"),
        ({"modes": modes(6, 8)[:1]}, "modes must be .* at least 2"),
        ({"modes": modes(6, 7)}, r"modes must be \[M, \*S\] of the image"),
        ({"modes": modes(6, 8) + 0.5}, "modes must hold integer"),
    ],
)
def test_rejects(options, message) -> None:
    given = {"image": torch.zeros(1, 6, 8), "modes": modes(6, 8), "distance": DISTANCE, "dims": (0, 2), "grid": 2}
    with pytest.raises(ValueError, match=message):
        plot_latent_modes(Quadrants(2), **{**given, **options})
