# SPDX-License-Identifier: Apache-2.0
"""
Simulated patients and streets, one at a time; the truth behind the readings is known.

Folders of them are made by the ``simulated_*_folder`` functions of :py:mod:`monai_stochseg.data`.
"""

from __future__ import annotations

from .abdomen import simulate_kidneys
from .brain import SimulatedBrain, simulate_brain
from .prostate import simulate_prostate
from .scan import SimulatedScan
from .streets import simulate_street

__all__ = [
    "SimulatedBrain",
    "SimulatedScan",
    "simulate_brain",
    "simulate_kidneys",
    "simulate_prostate",
    "simulate_street",
]
