# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import Circle, Ellipse
from torch import nn

from monai_stochseg.networks.nets import ProbabilisticUNet
from monai_stochseg.visualize import latent_plane, plot_latent_plane


class Ramp(ProbabilisticUNet):
    """Foreground are the pixels whose row is below 4 + 2 * (z - prior mean) / deviation of dimension 1."""

    mean, log_std = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[0.0, 1.0, 2.0]])

    def __init__(self, spatial_dims: int) -> None:
        super().__init__(spatial_dims, 1, 2, channels=(2, 2), latent_dim=3, core=nn.Identity(), feature_channels=1)

    def prior(self, x):
        return self.mean, self.log_std

    def posterior(self, x, y):
        drawn = (y > 0).float().mean()
        return self.mean + self.log_std.exp() * 2 * drawn, self.log_std + np.log(0.5)

    def decoder(self, x):
        rows = torch.arange(x.shape[2]).reshape(1, 1, -1, *[1] * (x.dim() - 3))

        def decode(z):
            edge = 4 + 2 * ((z - self.mean) / self.log_std.exp())[0, 1]
            assert z[0, 2] == self.mean[0, 2]
            foreground = (edge - rows).expand(1, 1, *x.shape[2:])
            return torch.cat([torch.zeros_like(foreground), foreground], dim=1)

        return decode


@pytest.mark.parametrize(("shape", "raters"), [((8, 9), 2), ((8, 9), None), ((8, 9, 4), 3)])
def test_figure(tmp_path, shape, raters) -> None:
    label = None if raters is None else torch.ones(raters, *shape)
    if label is not None:
        label[0] = 0
    figure = plot_latent_plane(Ramp(len(shape)), torch.randn(1, *shape), label, dims=(0, 1), grid=5)
    plane, *rest = figure.axes
    assert [ax.get_title() for ax in rest] == ["image", *[f"rater {i + 1}" for i in range(raters or 0)]]
    circles = [patch for patch in plane.patches if isinstance(patch, Circle)]
    assert [circle.get_radius() for circle in circles] == [1, 2, 3]
    ellipses = [patch for patch in plane.patches if type(patch) is Ellipse]
    assert len(ellipses) == (raters or 0)
    for i, ellipse in enumerate(ellipses):
        assert ellipse.get_center() == pytest.approx((0, 0) if i == 0 else (2, 2))
        assert (ellipse.width, ellipse.height) == pytest.approx((1, 1))
    assert plane.get_xlabel().startswith("latent dimension 0")
    assert plane.get_xlim() == pytest.approx((-3.75, 3.75))  # tiles of 1.5 are centred on -3 to 3
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_tiles_lie_where_their_latents_are(indexing: str, monkeypatch) -> None:
    """The foreground grows with dimension 1 alone, which is vertical by default, horizontal with dims=(1, 0)."""
    drawn = []
    monkeypatch.setattr(latent_plane, "overlay", lambda ax, labels, *args, **options: drawn.append(labels))
    for dims in ((0, 1), (1, 0)):
        plot_latent_plane(Ramp(2), torch.randn(1, 8, 8), dims=dims, grid=3, extent=1, indexing=indexing)
    for mosaic, axis in zip(drawn, (0, 1), strict=True):
        side = mosaic.shape[0] // 3
        areas = np.array([[mosaic[i * side :, j * side :][:side, :side].sum() for j in range(3)] for i in range(3)])
        areas = np.moveaxis(areas, axis, 0)
        assert (areas == areas[:, :1]).all()
        growing = areas[::-1, 0] if axis == 0 else areas[:, 0]  # upwards, or rightwards
        assert (np.diff(growing) > 0).all()


def test_extent_reaches_all_raters() -> None:
    net = Ramp(2)
    net.posterior = lambda x, y: (net.mean + 10 * net.log_std.exp(), net.log_std)
    figure = plot_latent_plane(net, torch.randn(1, 8, 8), torch.ones(1, 8, 8), grid=3)
    assert figure.axes[0].get_xlim()[1] > 10


def test_slice_of_a_volume() -> None:
    image, label = torch.zeros(1, 8, 8, 5), torch.zeros(2, 8, 8, 5)
    image[..., 3], image[..., 1], label[1, 2:4, 2:4, 3] = 7, 5, 1
    for options, value in (({}, 7), ({"slice_index": 1}, 5)):
        figure = plot_latent_plane(Ramp(3), image, label, grid=2, **options)
        assert (figure.axes[1].images[0].get_array() == value).all()


def test_a_real_network() -> None:
    net = ProbabilisticUNet(2, 1, 3, channels=(2, 4), latent_dim=2)
    figure = plot_latent_plane(net, torch.randn(1, 16, 16), torch.randint(3, (4, 16, 16)), grid=3)
    assert len(figure.axes) == 6


def test_a_network_in_training_is_left_as_it_was() -> None:
    net = ProbabilisticUNet(2, 1, 2, channels=(2, 4), latent_dim=2, norm="BATCH").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    plot_latent_plane(net, torch.randn(1, 16, 16), torch.ones(1, 16, 16), grid=2)
    assert all(module.training for module in net.modules())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": (0, 3)}, r"dims must be two of the 3 dimensions of the latent, got \(0, 3\)"),
        ({"dims": (1, 1)}, "dims must be two"),
        ({"grid": 1}, "grid must be at least 2, got 1"),
        ({"extent": 0.0}, "extent must be above 0"),
        ({"image": torch.zeros(8, 8)}, "image must be"),
        ({"indexing": "yx"}, "yx"),
        ({"label": torch.full((1, 8, 8), 0.9999)}, "label must hold integer class labels, got 0.9999"),
        ({"label": torch.zeros(1, 8, 7)}, r"label must be \[R, \*S\] of the image"),
    ],
)
def test_rejects(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_latent_plane(**{"network": Ramp(2), "image": torch.zeros(1, 8, 8), "grid": 2, **options})
