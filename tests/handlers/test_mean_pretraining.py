# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from tiny_training import cross_entropy, make_trainer

from monai_stochseg.handlers import MeanPretraining


class _Loss(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean_only = False
        self.seen: list[bool] = []

    def forward(self, logits, label):
        self.seen.append(self.mean_only)
        return cross_entropy(logits, label)


@pytest.mark.parametrize("epochs", [0, 2, 9])
def test_the_first_epochs_train_the_mean(epochs):
    loss = _Loss()
    make_trainer([MeanPretraining(loss, epochs)], max_epochs=3, epoch_length=2, loss=loss).run()
    assert loss.seen == [epoch <= epochs for epoch in (1, 1, 2, 2, 3, 3)]


def test_errors():
    with pytest.raises(TypeError, match="must have the attribute `mean_only`, as SSNLoss, but MSELoss has not"):
        MeanPretraining(torch.nn.MSELoss(), 1)
    with pytest.raises(ValueError, match="epochs must be at least 0 but is -1"):
        MeanPretraining(_Loss(), -1)
