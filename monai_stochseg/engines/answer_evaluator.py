# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from monai.engines import SupervisedEvaluator


class AnswerEvaluator(SupervisedEvaluator):
    """
    MONAI's SupervisedEvaluator that takes a batch without a case, the empty list: the share of a process for which no
    case is left. Its output is the empty list.
    """

    def _iteration(self, engine: SupervisedEvaluator, batchdata: Any) -> Any:
        return super()._iteration(engine, batchdata) if len(batchdata) else []
