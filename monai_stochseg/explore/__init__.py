# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg explore``: the samples of each case in the browser, or in a report of one file."""

from __future__ import annotations

from .command import explore
from .notebook import show_samples

__all__ = ["explore", "show_samples"]
