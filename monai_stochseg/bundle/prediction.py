# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from monai.transforms import AsDiscreted, Compose, Invertd, SaveImaged

from monai_stochseg.transforms import PredictiveEntropyd


def save_predictions(
    output_dir: str,
    transform: Callable | None,
    spatial_dims: int = 3,
    samples: bool = True,
    answer_entropy: bool = False,
) -> Compose:
    """
    Post-processing that saves the single answer, the samples (4th axis) and the predictive entropy as NIfTI, in the
    grid of the input.

    Args:
        output_dir: where; made when absent.
        transform: the pre-processing, which is inverted; None: nothing is to be inverted.
        spatial_dims: 2 or 3. Of 2D images all files have the axes ``[H, W, 1, N]``, N being 1 but for the samples.
        samples: whether there are any.
        answer_entropy: whether to save the entropy of the single answer too, as ``answer_entropy``: the uncertainty
            without a sample, where the answer is a calibration output.
    """
    entropies = {"probabilities": "entropy", **({"pred": "answer_entropy"} if answer_entropy else {})}
    dtypes = {
        "pred": np.uint8,
        **({"samples": np.uint8} if samples else {}),
        **dict.fromkeys(entropies.values(), np.float32),
    }
    inverse: list[Callable] = []
    if transform is not None:
        nearest = [key == "samples" for key in dtypes]
        inverse = [Invertd(list(dtypes), transform, orig_keys="image", nearest_interp=nearest, to_tensor=True)]
    return Compose(
        [
            PredictiveEntropyd(keys=list(entropies), names=list(entropies.values())),
            *inverse,
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
