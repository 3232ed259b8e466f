# SPDX-License-Identifier: Apache-2.0
"""Figures."""

from .samples import plot_samples

__all__ = ["plot_samples"]
