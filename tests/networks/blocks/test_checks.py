# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.networks.blocks.checks import check_min_size


@pytest.mark.parametrize(("size", "levels"), [((1, 1), 0), ((16, 17), 4), ((8, 9, 8), 3)])
def test_an_image_of_just_the_least_size_passes(size, levels):
    check_min_size(torch.zeros(1, 1, *size), levels)
    with pytest.raises(ValueError, match=f"{levels + 1} halvings need at least {2 ** (levels + 1)} voxels"):
        check_min_size(torch.zeros(1, 1, *size), levels + 1)
