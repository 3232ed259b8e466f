# SPDX-License-Identifier: Apache-2.0
"""``torch.compile`` of every loss: one graph, the values and gradients of the eager loss."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

import good_calls
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from monai_stochseg import losses

CUT = {
    "DiscriminatorLoss": "its penalty is a gradient within the loss, which PyTorch does not trace by default",
    "SoftDiceCELoss": "MONAI's DiceLoss looks at the values of its class weights",
}
CALLS = {name: good for name, good in good_calls._losses().items() if good.init is not None and name in losses.__all__}


def floats(value: Any) -> list[torch.Tensor]:
    """The floating tensors of a loss's arguments or result."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    return [x for part in value for x in floats(part)] if isinstance(value, (list, tuple)) else []


def call(name: str, compiled: bool) -> tuple[list[torch.Tensor], list[torch.Tensor | None], int]:
    """Results, gradients to the floating arguments but the weights of raters, and the number of graphs."""
    good = CALLS[name]
    arguments = {key: value for key, value in good.calls["__call__"].items() if key != "generator"}
    inputs = [x.requires_grad_() for key in ("input", "x", "real", "fake") for x in floats(arguments.get(key))]
    loss = getattr(losses, name)(**good.init).eval()  # ELBOLoss changes its multiplier in training, before the gradient
    counter = CompileCounterWithBackend("eager" if name in CUT else "aot_eager")
    torch._dynamo.reset()
    torch.manual_seed(3)
    run = torch.compile(loss, backend=counter, fullgraph=name not in CUT) if compiled else loss
    result = floats(run(**arguments)) if name != "DiscriminatorLoss" else [run(**arguments)[0]]
    sum(x.sum() for x in result).backward()
    gradients = [x.grad for x in inputs]
    for x in inputs:
        x.grad = None
        x.requires_grad_(False)
    return result, gradients, counter.frame_count


@pytest.mark.parametrize("name", CALLS)
def test_a_compiled_loss_is_the_loss(name):
    result, gradients, graphs = call(name, compiled=True)
    expected, expected_gradients, _ = call(name, compiled=False)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-6)
    assert (graphs == 1) == (name not in CUT)


def test_a_compiled_loss_does_not_read_labels():
    loss = losses.SSNLoss(out_channels=2, rank=1, num_samples=2)
    parameters, wrong = torch.randn(1, 6, 4, 4), torch.full((1, 1, 4, 4), torch.nan)
    with pytest.raises(ValueError, match="integer class labels"):
        loss(parameters, wrong)
    torch._dynamo.reset()
    with pytest.raises((RuntimeError, IndexError)):
        torch.compile(loss, backend="eager", fullgraph=True)(parameters, torch.full((1, 1, 4, 4), 7))
