# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from monai.transforms import AsDiscreted, Compose, Invertd, SaveImaged

from monai_stochseg.transforms import PredictiveEntropyd


def save_predictions(output_dir: str, transform: Callable, spatial_dims: int = 3, samples: bool = True) -> Compose:
    """
    Post-processing that saves the single answer, the samples (4th axis) and the predictive entropy as NIfTI, in the
    grid of the input.

    Args:
        output_dir: where; made when absent.
        transform: the pre-processing, which is inverted.
        spatial_dims: 2 or 3. Of 2D images all files have the axes ``[H, W, 1, N]``, N being 1 but for the samples.
        samples: whether there are any.
    """
    dtypes = {"pred": np.uint8, **({"samples": np.uint8} if samples else {}), "entropy": np.float32}
    return Compose(
        [
            PredictiveEntropyd(keys="probabilities", names="entropy"),
            Invertd(
                keys=list(dtypes),
                transform=transform,
                orig_keys="image",
                nearest_interp=[key == "samples" for key in dtypes],
                to_tensor=True,
            ),
            AsDiscreted(keys="pred", argmax=True),
            *(
                SaveImaged(
                    keys=key,
                    output_dir=output_dir,
                    output_postfix="mode" if key == "pred" else key,
                    output_dtype=dtype,
                    resample=True,  # MONAI tells its writer the shape only then, and the grid is the input's already
                    separate_folder=False,
                    squeeze_end_dims=spatial_dims == 3,  # MONAI's writer fails on [H, W]
                )
                for key, dtype in dtypes.items()
            ),
        ]
    )
