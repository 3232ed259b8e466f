# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.losses import Temperature, fit_temperature
from monai_stochseg.metrics import ExpectedCalibrationErrorMetric

CLASSES = 3


def drawn(spatial_dims: int = 2, size: int = 40, raters: int = 2, scale: float = 2.5, bias=(0.0, 0.0, 0.0)):
    """Logits whose labels were drawn from logits / scale - bias / scale: overconfident by a known temperature."""
    generator = torch.Generator().manual_seed(0)
    shape = [size] * spatial_dims if spatial_dims == 2 else [size // 3] * 3
    true = 1.5 * torch.randn(2, CLASSES, *shape, generator=generator, dtype=torch.float64)
    flat = true.softmax(1).movedim(1, -1).reshape(-1, CLASSES)
    labels = torch.multinomial(flat, raters, replacement=True, generator=generator)
    labels = labels.reshape(2, *shape, raters).movedim(-1, 1)
    shift = torch.tensor(bias, dtype=torch.float64).reshape(1, -1, *[1] * spatial_dims)
    return scale * (true - shift), labels


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_known_temperature_is_found(spatial_dims):
    logits, labels = drawn(spatial_dims)
    found = fit_temperature(logits, labels)
    torch.testing.assert_close(found.scale, torch.full((CLASSES,), 1 / 2.5, dtype=torch.float64), atol=0.03, rtol=0)
    assert not found.bias.any()
    errors = []
    for own in (logits, found.apply(logits)):
        metric = ExpectedCalibrationErrorMetric()
        metric(own.softmax(1), labels)
        errors.append(metric.aggregate().item())
    assert errors[0] > 0.1
    assert errors[1] < 0.02


def test_known_scales_and_biases_are_found():
    logits, labels = drawn(size=60, bias=(0.6, -0.2, -0.4))
    found = fit_temperature(logits, labels, vector=True)
    torch.testing.assert_close(found.scale, torch.full((CLASSES,), 1 / 2.5, dtype=torch.float64), atol=0.04, rtol=0)
    expected = torch.tensor([0.6, -0.2, -0.4], dtype=torch.float64)
    torch.testing.assert_close(found.bias, expected, atol=0.12, rtol=0)


@pytest.mark.parametrize("vector", [False, True])
def test_the_gradient_of_the_plain_cross_entropy_is_zero_there(vector):
    logits, labels = drawn(size=20)
    found = fit_temperature(logits, labels, vector=vector)
    scale, bias = (term.clone().requires_grad_() for term in found)
    scaled = logits * scale.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
    plain = torch.stack([F.cross_entropy(scaled, labels[:, rater]) for rater in range(2)]).mean()
    gradients = torch.autograd.grad(plain, (scale, bias))
    if vector:
        assert all(gradient.abs().max() < 1e-4 for gradient in gradients)
    else:
        assert gradients[0].sum().abs() < 1e-4


def test_weights_void_voxels_and_missing_raters():
    logits, labels = drawn(raters=2)
    alone = fit_temperature(logits, labels[:, :1])
    torch.testing.assert_close(fit_temperature(logits, labels, torch.tensor([[1.0, 0.0]] * 2)).scale, alone.scale)
    three = torch.cat([labels[:, :1], torch.full_like(labels[:, :1], 77)], dim=1)
    torch.testing.assert_close(fit_temperature(logits, three, torch.tensor([[2.0, 0.0]] * 2)).scale, alone.scale)
    repeated = fit_temperature(logits, labels[:, [0, 0, 0, 1]])
    torch.testing.assert_close(fit_temperature(logits, labels, torch.tensor([[3.0, 1.0]] * 2)).scale, repeated.scale)
    void = labels.clone()
    void[:, :, :20] = 255
    half = fit_temperature(logits[:, :, 20:], labels[:, :, 20:])
    torch.testing.assert_close(fit_temperature(logits, void, ignore_index=255).scale, half.scale)


def test_some_voxels_are_enough():
    logits, labels = drawn(size=60)
    some = fit_temperature(logits, labels, max_voxels=2000)
    torch.testing.assert_close(some.scale, fit_temperature(logits, labels).scale, atol=0.04, rtol=0)


@pytest.mark.parametrize("axis", [1, 2, -2])
def test_what_is_found_is_applied_along_the_class_axis(axis):
    temperature = Temperature(torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0]))
    logits = torch.ones(4, 2, 2, 5)
    found = temperature.apply(logits, axis)
    torch.testing.assert_close(found.movedim(axis, 0)[0], torch.full((4, 2, 5), 3.0))
    torch.testing.assert_close(found.movedim(axis, 0)[1], torch.full((4, 2, 5), 2.0))


def test_half_precision_is_fitted_in_float64():
    logits, labels = drawn()
    assert fit_temperature(logits.half(), labels).scale.dtype == torch.float64


def test_rejects_inputs():
    logits, labels = drawn(size=4)
    with pytest.raises(ValueError, match="target: all voxels are void"):
        fit_temperature(logits, torch.full_like(labels, 255), ignore_index=255)
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        fit_temperature(logits * torch.nan, labels)
    with pytest.raises(ValueError, match="label 3, outside the 3 classes"):
        fit_temperature(logits, labels + 1)
    with pytest.raises(ValueError, match=r"target must be \[B, raters, \*S\]"):
        fit_temperature(logits, labels[..., 1:])
    with pytest.raises(ValueError, match="max_voxels must be at least 1, got 0"):
        fit_temperature(logits, labels, max_voxels=0)
