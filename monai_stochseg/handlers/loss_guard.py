# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys, ImageMetaKey, ensure_tuple
from torch import nn

from monai_stochseg.handlers.exceptions import NonFiniteError

__all__ = ["LossGuard"]


class LossGuard:
    """
    Handler of a trainer that stops at the first loss that is NaN or infinite, before the optimizer's step.

    So the weights stay clean, and the program ends with an error and a non-zero exit status.

    Args:
        network: when given, the norm of its gradient must be finite too. Under AMP the gradients are not checked: the
            scaler skips steps and lowers its scale.
        image_key: the entry of the batch whose files the error names, when it is a ``MetaTensor`` with file names.

    Raises:
        NonFiniteError: during training; names the term, its value, epoch, iteration and the batch's files.
    """

    def __init__(self, network: nn.Module | None = None, image_key: str = CommonKeys.IMAGE) -> None:
        self.network = network
        self.image_key = image_key

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer of MONAI.
        """
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.check_loss)
        if self.network is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.check_gradient)

    def check_loss(self, engine: Engine) -> None:
        """Raise unless ``engine.state.output["loss"]`` is finite."""
        loss = engine.state.output[CommonKeys.LOSS]
        if not torch.isfinite(loss).all():
            raise NonFiniteError(f"the loss is {loss.tolist()} {self._where(engine)}")

    def check_gradient(self, engine: Engine) -> None:
        """Raise unless the total norm of the network's gradient is finite."""
        if self.network is None or (engine.scaler is not None and engine.scaler.is_enabled()):
            return
        gradients = {name: p.grad for name, p in self.network.named_parameters() if p.grad is not None}
        norm = nn.utils.get_total_norm(gradients.values())
        if not torch.isfinite(norm):
            first = next((name for name, grad in gradients.items() if not torch.isfinite(grad).all()), "all together")
            raise NonFiniteError(
                f"the norm of the gradient is {norm.item()}, of {first} first, with a finite loss of "
                f"{engine.state.output[CommonKeys.LOSS].item():.6g} {self._where(engine)}"
            )

    def _where(self, engine: Engine) -> str:
        where = f"at epoch {engine.state.epoch}, iteration {engine.state.iteration}"
        files = _files(engine.state.batch, self.image_key)
        return f"{where}, of {', '.join(files)}" if files else where


def _files(batch: Any, key: str) -> list[str]:
    """The files of a collated batch, each once."""
    image = batch.get(key) if isinstance(batch, dict) else None
    names = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, ()) if isinstance(image, MetaTensor) else ()
    return list(dict.fromkeys(str(name) for name in ensure_tuple(names)))
