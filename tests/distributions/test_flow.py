# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_stochseg.distributions import FlowDistribution, WindowedDistribution, integrate_flow

CLASSES = 3
FIELDS = ["start", "marginal"]


def uniform(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.full_like(y, 1 / CLASSES)


def nearest(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return (3 * y).softmax(1)


def identity(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A flow that stays where it is."""
    return y


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_samples_have_the_bases_mean_where_the_flow_is_the_identity(shape, field):
    mean = torch.randn(2, CLASSES, *shape)
    distribution = FlowDistribution(mean, identity, num_steps=4, field=field)
    noise = torch.randn(2, 2000, CLASSES, *shape, generator=torch.Generator().manual_seed(0))
    ends = distribution.ends(noise)
    torch.testing.assert_close(ends, mean[:, None] + noise)
    torch.testing.assert_close(ends.mean(1), mean, atol=0.15, rtol=0)
    torch.testing.assert_close(ends.std(1), torch.ones_like(mean), atol=0.1, rtol=0)
    torch.testing.assert_close(distribution.ends(torch.zeros_like(noise[:, :1]))[:, 0], mean)


@pytest.mark.parametrize("field", FIELDS)
def test_two_steps_by_hand(field):
    u = torch.tensor([[[0.0], [1.0], [-1.0]]])
    seen = []

    def categorical(y, t):
        seen.append((y, t))
        return torch.tensor([[[0.5], [0.5], [0.0]]]) if len(seen) == 1 else torch.tensor([[[1.0], [0.0], [0.0]]])

    end = integrate_flow(categorical, u, 2, field)
    # half way from the start to the first categorical, in both fields
    torch.testing.assert_close(seen[1][0], torch.tensor([[[0.25], [0.75], [-0.5]]]))
    assert [t.tolist() for _, t in seen] == [[0.0], [0.5]]
    expected = [0.75, 0.25, 0.0] if field == "start" else [1.0, 0.0, 0.0]  # the mean of both, and the last
    torch.testing.assert_close(end.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("field", FIELDS)
def test_a_library_solver_agrees_with_fine_euler_steps(field):
    pytest.importorskip("torchdiffeq")
    u = torch.randn(2, CLASSES, 4, generator=torch.Generator().manual_seed(1))
    fine = integrate_flow(nearest, u, 400, field)  # the last step is a share of 1 / num_steps
    for solver in ("midpoint", "rk4", "dopri5"):
        torch.testing.assert_close(integrate_flow(nearest, u, 100, field, solver), fine, atol=0.03, rtol=0)


def test_a_solver_without_its_library_is_refused(monkeypatch):
    monkeypatch.setattr("monai_stochseg.distributions.flow.optional_import", lambda *args, **kwargs: (None, False))
    with pytest.raises(ImportError, match=r"solver 'rk4' needs torchdiffeq: .*monai_stochseg\[flow\]"):
        integrate_flow(nearest, torch.zeros(1, CLASSES, 2), solver="rk4")


def test_draws_replay_and_chunks_equal_the_whole():
    distribution = FlowDistribution(torch.zeros(2, CLASSES, 4, 5), nearest, 3)
    whole = distribution.sample_logits(5, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([distribution.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    torch.testing.assert_close(whole.exp().sum(2), torch.ones(2, 5, 4, 5))
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_the_mode_is_the_path_from_the_mean():
    mean = torch.randn(1, CLASSES, 4, 5)
    distribution = FlowDistribution(mean, nearest, 3)
    torch.testing.assert_close(distribution.mode_logits(), integrate_flow(nearest, mean, 3).log())


@pytest.mark.parametrize("size", [(8, 8), (8, 8, 8)])
@pytest.mark.parametrize("overlap", [0, 0.5])
def test_windows_share_one_noise_field(size, overlap):
    """What each voxel says by itself is that of the whole image, to the last voxel; with a noise of its own for each
    window it repeats."""
    image = torch.randn(1, CLASSES, *(2 * n + 3 for n in size))

    def predictive(window):
        return FlowDistribution(window, nearest, 3)

    inferer = SlidingWindowInferer(size, overlap=overlap)
    one = WindowedDistribution(image, predictive, inferer, CLASSES)
    samples = one.sample_logits(2, torch.Generator().manual_seed(0))
    generators = torch.Generator().manual_seed(0)
    seeds = [int(torch.randint(0, 2**62, (1,), generator=generators)) for _ in range(2)]
    fields = [torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    torch.testing.assert_close(samples, predictive(image).decode(torch.stack(fields, dim=1)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.mode_logits(), predictive(image).mode_logits(), atol=1e-4, rtol=1e-4)
    inferer = SlidingWindowInferer(size, overlap=0)
    apart = WindowedDistribution(torch.zeros(1, CLASSES, *(16,) * len(size)), predictive, inferer)
    sample = apart.sample_logits(1)[0, 0].movedim(0, -1)
    torch.testing.assert_close(sample[:8, :8], sample[8:, 8:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"field": "best"}, r"field must be one of \('start', 'marginal'\), got 'best'"),
        ({"solver": "best"}, "solver must be one of .*'euler'.* got 'best'"),
    ],
)
def test_rejects_options(options, message):
    with pytest.raises(ValueError, match=message):
        integrate_flow(uniform, torch.zeros(1, CLASSES, 2), **options)
    with pytest.raises(ValueError, match=message):
        FlowDistribution(torch.zeros(1, CLASSES, 2), uniform, **options)


def test_rejects_noise_of_another_shape():
    distribution = FlowDistribution(torch.zeros(1, CLASSES, 2), uniform)
    with pytest.raises(ValueError, match=r"noise must be \[B, n, C, \*S\] of mean \(1, 3, 2\), got \(1, 3, 2\)"):
        distribution.decode(torch.zeros(1, CLASSES, 2))
