# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.data import CaseError, brats_datalist
from monai_stochseg.data.brain_mask import derive_brain_mask
from monai_stochseg.transforms import LoadCased


def ball(axes: int = 3) -> torch.Tensor:
    """Two channels of noise within a ball, zero outside."""
    grid = torch.meshgrid(*[torch.linspace(-1, 1, 20)] * axes, indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.8
    return (torch.rand(2, *inside.shape) + 1) * inside


@pytest.mark.parametrize("axes", [2, 3])
def test_the_brain_is_where_any_channel_differs_from_zero(axes) -> None:
    image = ball(axes)
    image[0, :10] = 0
    image[1, 5:] = 0
    assert torch.equal(derive_brain_mask("p", image), (image != 0).any(0, keepdim=True))


def test_a_brain_may_touch_the_border_or_fill_most_of_a_crop() -> None:
    image = ball()[:, 4:, 3:-3, 3:-3]
    assert derive_brain_mask("p", image).float().mean() > 0.6


@pytest.mark.parametrize("border", [0, 3])
def test_refuses_a_background_that_is_not_zero(border) -> None:
    """As of an image of zero mean and unit variance; also where it was padded with zeros later."""
    image = ball()
    image[1] -= 0.75
    image = torch.nn.functional.pad(image, [border] * 6)
    message = "background of channel 1 is -0.75" if border else "100.0% of the image differ from zero"
    with pytest.raises(
        CaseError, match=rf"^patient p: .*{message}.*give its brain mask .* or set the background to zero"
    ):
        derive_brain_mask("p", image)


def test_refuses_what_has_no_background() -> None:
    with pytest.raises(CaseError, match=r"^patient p: 100.0% of the image differ from zero, so there is no background"):
        derive_brain_mask("p", torch.rand(1, 9, 9, 9) + 1)
    with pytest.raises(CaseError, match=r"^patient p: the brain mask is empty \(the image is zero\)"):
        derive_brain_mask("p", torch.zeros(1, 9, 9, 9))


def test_the_real_normalised_layout_is_refused_without_its_mask(real_data) -> None:
    case = brats_datalist(real_data / "brats2015" / "validation", ("flair", "t1c"))[0]
    del case["mask"]
    with pytest.raises(CaseError, match=rf"^patient {case['patient']}: 100.0% of the image differ from zero"):
        LoadCased(with_label=False)(case)
