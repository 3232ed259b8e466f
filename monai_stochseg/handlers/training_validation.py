# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from monai_stochseg.handlers.training_checkpoint import TrainingCheckpoint

__all__ = ["TrainingValidation"]


class TrainingValidation(ValidationHandler):
    """
    MONAI's ValidationHandler for a training that may be resumed: it validates the untrained network, then every
    ``interval`` epochs and after the last, however short the training is.

    A resumed training begins with the validation in which it was stopped, and with none where it was stopped elsewhere:
    so its validations are those of a training that was never stopped. One that is at its end already, and whose best
    network is not there, validates once more, so that there is one.

    Args:
        interval: epochs between validations.
        validator: the evaluator.
        checkpoint: of the same trainer; it keeps whether a validation is to be repeated.

    Raises:
        ValueError: when ``interval`` is below 1.
    """

    def __init__(self, interval: int, validator: Evaluator, checkpoint: TrainingCheckpoint) -> None:
        if interval < 1:
            raise ValueError(f"the interval of validations must be at least 1 epoch, got {interval}.")
        super().__init__(interval, validator)
        self.checkpoint = checkpoint

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _start(self, engine: Engine) -> None:
        at_end = engine.state.epoch == engine.state.max_epochs and not self.checkpoint.best_path.exists()
        if engine.state.iteration == 0 or self.checkpoint.validation_pending or at_end:
            self(engine)

    def _end_epoch(self, engine: Engine) -> None:
        if engine.state.epoch % self.interval == 0 or engine.state.epoch == engine.state.max_epochs:
            self(engine)
