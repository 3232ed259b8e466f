# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import Dataset, MetaTensor
from tiny_training import cross_entropy, make_network, make_trainer

from monai_stochseg.handlers import LossGuard, NonFiniteError


def _poisoned(value, call, calls=None):
    """A loss that is ``value`` at its call number ``call``."""
    calls = [] if calls is None else calls

    def loss(logits, label):
        calls.append(1)
        return cross_entropy(logits, label) * (value if len(calls) == call else 1.0)

    return loss


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_stops_before_the_step_and_names_epoch_and_iteration(value):
    network = make_network()
    trainer = make_trainer([LossGuard()], network=network, max_epochs=3, loss=_poisoned(value, call=5))
    with pytest.raises(NonFiniteError, match=rf"the loss is {value} at epoch 2, iteration 5$"):
        trainer.run()
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert trainer.optimizer.state_dict()["state"][0]["step"] == 4


def test_names_the_files_of_the_batch():
    items = [
        {
            "image": MetaTensor(torch.zeros(1, 8, 8), meta={"filename_or_obj": f"patient{i}.nii"}),
            "label": torch.zeros(1, 8, 8),
        }
        for i in range(2)
    ]
    trainer = make_trainer([LossGuard()], dataset=Dataset(items), loss=_poisoned(float("nan"), call=1))
    with pytest.raises(NonFiniteError, match=r"of patient(0.nii, patient1|1.nii, patient0).nii$"):
        trainer.run()


class _InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(grad, torch.inf)


class _Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(1, 2, 1)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.as_tensor(self.head(x)) * _InfiniteGradient.apply(self.scale)


def test_gradient_is_checked_when_the_network_is_given():
    network = _Network()
    trainer = make_trainer([LossGuard(network)], network=network)
    with pytest.raises(NonFiniteError, match=r"norm of the gradient is inf, of scale first, .*epoch 1, iteration 1"):
        trainer.run()
    assert all(torch.isfinite(p).all() for p in network.parameters())

    class Scaler:
        def is_enabled(self):
            return True

    trainer.scaler = Scaler()
    LossGuard(network).check_gradient(trainer)  # the scaler's own task


def test_finite_training_is_left_alone():
    network = make_network()
    make_trainer([LossGuard(network)], network=network).run()
