# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.transforms import NormalizeAboveMean, NormalizeAboveMeand


def by_definition(channel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(channel[mask], (5, 95))
    chosen = [x for x in channel[mask] if low < x < high and x > channel.mean()]
    return (channel - np.mean(chosen)) / np.std(chosen)


@pytest.mark.parametrize(("zeros", "chosen"), [(2, (5.0, 6.0)), (30, (4.0, 5.0, 6.0))])
def test_by_hand(zeros: int, chosen: tuple[float, ...]) -> None:
    """
    Of 1, 2, ..., 9 in the mask the quartiles are 3 and 7, which do not count themselves. With 2 zeros outside the mean
    of all is 4.1, with 30 it is 1.2.
    """
    image = torch.tensor([[0.0] * zeros + [1.0, 2, 3, 4, 5, 6, 7, 8, 9]])
    found = NormalizeAboveMean((25, 75))(image, image > 0)
    torch.testing.assert_close(found, (image - np.mean(chosen)) / np.std(chosen))


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7)])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, lambda x: MetaTensor(torch.from_numpy(x))])
def test_equals_the_definition(shape, make) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((1, *shape)) > 0.4
    image = (rng.gamma(2, 100, (2, *shape)) * mask).astype(np.int16)
    found = NormalizeAboveMeand(("image", "absent"), "region", allow_missing_keys=True)(
        {"image": make(image), "region": make(mask)}
    )["image"]
    assert type(found) is type(make(image))
    assert found.dtype in (np.float32, torch.float32)
    expected = np.stack([by_definition(channel, mask[0]) for channel in image.astype(float)])
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (torch.ones(1, 4), torch.ones(1, 4), "img: channel 0 has no two different values within the mask"),
        (torch.arange(4.0)[None], torch.zeros(1, 4), "img: channel 0 has no two different values within the mask"),
        (torch.ones(1, 4), torch.ones(4), r"mask must have the shape \(1, 4\), got \(4,\)"),
    ],
)
def test_refuses(image, mask, message) -> None:
    with pytest.raises(ValueError, match=message):
        NormalizeAboveMean()(image, mask)
    with pytest.raises(KeyError, match="the case has no 'mask'"):
        NormalizeAboveMeand("image")({"image": image})
    for wrong in ((95.0, 5.0), (5.0,), (0.0, 101.0)):
        with pytest.raises(ValueError, match="percentiles must be two ascending numbers from 0 to 100"):
            NormalizeAboveMean(wrong)
