# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.networks.nets import (
    BlackBox,
    BlackBoxCalibrationNetwork,
    CalibratedAdversarialRefinement,
    GivenProbabilities,
    RefinementNetwork,
)


def make_segmenter(out_channels: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, out_channels, 1)
    )


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("softmax", lambda y: y.softmax(1)), ("sigmoid", torch.sigmoid), (None, lambda y: y)],
)
def test_gives_probabilities(activation, expected, image):
    segmenter = make_segmenter(3)
    output = BlackBox(segmenter, activation)(image)
    torch.testing.assert_close(output, expected(segmenter.eval()(image).detach()))
    both = BlackBox(segmenter, activation, with_image=True)(image)
    torch.testing.assert_close(both, torch.cat([output, image], 1))


def test_a_torchscript_file_is_the_network(image, tmp_path):
    segmenter = make_segmenter().eval()
    torch.jit.script(segmenter).save(tmp_path / "model.ts")
    torch.testing.assert_close(BlackBox(tmp_path / "model.ts")(image), BlackBox(segmenter)(image))
    assert not any(p.requires_grad for p in BlackBox(str(tmp_path / "model.ts")).parameters())


@pytest.mark.parametrize("scripted", [False, True])
def test_training_moves_the_calibration_network_alone(scripted, image):
    segmenter = make_segmenter()
    black_box = BlackBox(torch.jit.script(segmenter) if scripted else segmenter)
    calibration = nn.Sequential(black_box, BlackBoxCalibrationNetwork(2, 2, 2, channels=4)).train()
    first = {k: v.clone() for k, v in black_box.state_dict().items()}
    expected = black_box(image)
    optimizer = torch.optim.SGD(calibration.parameters(), lr=1.0)
    nn.functional.cross_entropy(calibration(image), (image[:, 0] > 0).long()).backward()
    assert all(p.grad is None for p in black_box.parameters())
    assert all(p.grad.any() for p in calibration[1].final.parameters())
    optimizer.step()
    assert all(torch.equal(v, first[k]) for k, v in black_box.state_dict().items())
    assert torch.equal(black_box(image), expected)  # no dropout, no statistics of the batch


def test_refines_a_black_box(image):
    calibration = nn.Sequential(BlackBox(make_segmenter(), with_image=True), BlackBoxCalibrationNetwork(2, 3, 2, 4))
    net = CalibratedAdversarialRefinement(calibration, RefinementNetwork(2, 1, 2, latent_dim=2, channels=(4, 8)))
    output = net(image, num_samples=2)
    torch.testing.assert_close(output.calibration, calibration.eval()(image).softmax(1).detach())
    assert net.predictive(image).sample_logits(5).shape == (3, 5, 2, 8, 8)


def test_refines_predictions_that_are_channels_of_the_image(image):
    with_prediction = BlackBox(make_segmenter(), with_image=True)(image)  # as they would be read from disk
    net = CalibratedAdversarialRefinement(
        BlackBoxCalibrationNetwork(2, 3, 2, 4), RefinementNetwork(2, 3, 2, latent_dim=2, channels=(4, 8))
    )
    assert net.predictive(with_prediction).sample_logits(5).shape == (3, 5, 2, 8, 8)


class _Several(nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x]


@pytest.mark.parametrize(
    ("network", "error", "match"),
    [
        (_Several(), TypeError, "must return one tensor .*, got list"),
        (nn.Conv2d(1, 2, 3), ValueError, r"of the image's size, got \(3, 2, 6, 6\) for \(3, 1, 8, 8\)"),
        (nn.Flatten(), ValueError, r"got \[3, 64\]"),
    ],
)
def test_rejects_other_outputs(network, error, match, image):
    with pytest.raises(error, match=match):
        BlackBox(network)(image)


def test_rejects_an_activation():
    with pytest.raises(ValueError, match=r"activation must be one of \('softmax', 'sigmoid', None\), got 'argmax'"):
        BlackBox(make_segmenter(), "argmax")


def test_rejects_a_checkpoint(tmp_path):
    torch.save(make_segmenter().state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt is no TorchScript file: .*ckpt_export"):
        BlackBox(tmp_path / "model.pt")


def test_given_probabilities_take_the_place_of_a_calibration_network() -> None:
    """The single answer is what the image brings; only the refinement is trained."""
    given = torch.rand(2, 3, 8, 8).softmax(1)
    given[:, :, 0] = torch.tensor([1.0, 0.0, 0.0])[None, :, None]
    image = torch.cat([torch.rand(2, 1, 8, 8), given], 1)
    net = CalibratedAdversarialRefinement(GivenProbabilities(3), RefinementNetwork(2, 4, 3, channels=(4, 8)))
    torch.testing.assert_close(net.predictive(image).calibration_output(), given, rtol=0, atol=1e-5)
    assert all(p.requires_grad for p in net.parameters())
    with pytest.raises(ValueError, match="x must end with the probabilities of out_channels=3 classes, got 2"):
        GivenProbabilities(3)(image[:, :2])
