# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

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


def test_the_optimiser_begins_anew_with_what_had_no_gradient():
    first, later = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.Adam([first, later], lr=0.1)
    handler = MeanPretraining(_Loss(), epochs=3)
    engine = SimpleNamespace(state=SimpleNamespace(epoch=1, iteration=0, epoch_length=50), optimizer=optimizer)
    for epoch in range(1, 4):
        engine.state.epoch, engine.state.iteration = epoch, 50 * (epoch - 1)
        handler(engine)
        first.grad, later.grad = torch.ones(2), torch.zeros(2)
        for _ in range(50):
            optimizer.step()
    engine.state.epoch, engine.state.iteration = 4, 151
    handler(engine)  # resumed within the epoch
    assert later in optimizer.state
    engine.state.iteration = 150
    handler(engine)
    assert first in optimizer.state
    assert later not in optimizer.state
    later.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(later.detach(), torch.full((2,), 0.9))  # one step of the learning rate
