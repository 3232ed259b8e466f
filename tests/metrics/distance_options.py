# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields
from typing import Any

from monai_stochseg.metrics import LabelMapDistance


def with_distance(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a metric, those of the distance joined in one ``distance``."""
    names = [field.name for field in fields(LabelMapDistance)]
    distance = LabelMapDistance(**{name: value for name, value in options.items() if name in names})
    return {"distance": distance, **{name: value for name, value in options.items() if name not in names}}
