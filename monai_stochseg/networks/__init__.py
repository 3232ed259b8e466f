# SPDX-License-Identifier: Apache-2.0
"""Networks and the parts that they share."""

from . import blocks, nets

__all__ = ["blocks", "nets"]
