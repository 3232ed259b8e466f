# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ignite.distributed as idist
import torch
from ignite.engine import Engine

from monai_stochseg.handlers.load_weights import WeightsLoader, load_weights

__all__ = ["CalibrationLoader"]


class CalibrationLoader(WeightsLoader):
    """
    Handler of the second stage of Calibrated Adversarial Refinement that loads the calibration network of the
    first stage, see :py:class:`monai_stochseg.engines.AdversarialRefinementTrainer`.

    A training that resumes has its calibration network already: it is compared with the checkpoint, because a
    refinement must not continue with another target. Put this handler after the one that resumes.

    Args:
        network: the calibration network inside the network that is trained.
        path: a checkpoint of the first stage.
        key: the entry of the file that holds the weights, ``None`` when the file is a state dictionary itself, as in
            MONAI's bundles.
    """

    def __call__(self, engine: Engine) -> None:
        """
        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it is not a checkpoint of this network, or not that of the training that is resumed.
        """
        idist.barrier()  # the first process may still be writing the first stage's best
        if engine.state.iteration == 0:
            super().__call__(engine)
            return
        resumed = {name: value.clone() for name, value in self.network.state_dict().items()}
        load_weights(self.network, self.path, self.key)
        loaded = self.network.state_dict()
        if not all(torch.equal(value, loaded[name]) for name, value in resumed.items()):
            raise ValueError(
                f"{self.path} is not the calibration network that the resumed training refines: resume with that one, "
                "or train the second stage from the start."
            )
