# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg benchmark``: every method on one task, in one table."""

from .command import benchmark
from .methods import BenchmarkError, Method, find_methods
from .report import write_report

__all__ = ["BenchmarkError", "Method", "benchmark", "find_methods", "write_report"]
