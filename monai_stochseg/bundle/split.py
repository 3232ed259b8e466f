# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

from monai_stochseg.handlers.training_checkpoint import last_state

__all__ = ["SPLIT_FILE", "resumed_split"]

SPLIT_FILE = "split.json"


def resumed_split(output_dir: str | os.PathLike[str], resume: bool | str | os.PathLike[str]) -> str | None:
    """
    The file of the split of a training that is resumed, which lies beside its last state; None where the training
    begins, and the split is drawn.

    A file that is missing beside a last state is an error of whoever reads it: another split would be drawn.

    Args:
        output_dir: folder of the training.
        resume: as for :py:class:`monai_stochseg.handlers.TrainingCheckpoint`.
    """
    state = last_state(output_dir, resume)
    if state is None:
        return None
    split = state.parent / SPLIT_FILE
    is_requeued = str(resume).lower() == "true"  # and no path: there may be no state yet
    return None if is_requeued and not state.exists() and not split.exists() else str(split)
