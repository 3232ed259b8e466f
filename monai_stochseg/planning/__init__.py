# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg plan``: what a user's folder holds, and the configuration that fits it."""

from .command import plan

__all__ = ["plan"]
