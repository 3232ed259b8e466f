# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from monai.utils import CommonKeys


def iteration_loss(output: Any) -> float:
    """Read the loss of a trainer's output of one iteration: a dictionary, or a list of them after decollation."""
    loss = (output[0] if isinstance(output, list) else output)[CommonKeys.LOSS]
    return float(getattr(loss, "detach", lambda: loss)())
