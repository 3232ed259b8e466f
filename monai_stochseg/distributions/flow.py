# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch
from monai.utils import optional_import

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes, check_option
from monai_stochseg.distributions.base import PredictiveDistribution, full_precision

__all__ = ["FlowDistribution", "integrate_flow"]

Categorical = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
FIELDS = ("start", "marginal")
_FIXED = ("midpoint", "rk4", "heun2", "heun3")
SOLVERS = ("euler", *_FIXED, "dopri5", "bosh3")
LEAST_PROBABILITY = 1e-7


@check_arguments
def integrate_flow(
    categorical: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    num_steps: int = 10,
    field: str = "start",
    solver: str = "euler",
) -> torch.Tensor:
    """
    Follow a flow from t = 0 to 1, whose paths ``(1 - t) u + t y`` join noise u and one-hot labels y (Ribeiro et al.
    2025, https://arxiv.org/abs/2507.18838).

    With p the categorical of y given the place and the time, the vector field is ``p - u``, u being where this path
    has started (``"start"``, that of the authors' code: a path is the straight line to the mean of the p so far), or
    ``(p - y_t) / (1 - t)`` (``"marginal"``: the mean velocity of all paths through a place, whose flow has the labels'
    distribution at its end). The last step of the second is the categorical itself.

    Args:
        categorical: maps a place ``[B, C, *S]`` and times ``[B]`` to probabilities ``[B, C, *S]``.
        start: u, ``[B, C, *S]``.
        num_steps: number of steps; of an adaptive solver only the last step's length.
        field: ``"start"`` or ``"marginal"``.
        solver: ``"euler"``, or a method of ``torchdiffeq``, which the extra ``flow`` installs: ``"midpoint"``,
            ``"rk4"``, ``"heun2"``, ``"heun3"``, ``"dopri5"``, ``"bosh3"``.

    Returns:
        the place at t = 1, ``[B, C, *S]``.

    Raises:
        ValueError: when num_steps is below 1, or for another field or solver.
        ImportError: when the solver needs ``torchdiffeq``, and it is not there.
    """
    check_axes("[B, C, *S]", 3, start=start)
    check_at_least(1, num_steps=num_steps)
    check_option("field", field, FIELDS)
    check_option("solver", solver, SOLVERS)

    def velocity(t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        times = torch.as_tensor(t, dtype=y.dtype, device=y.device).expand(y.shape[0])
        p = categorical(y, times)
        return p - start if field == "start" else (p - y) / (1 - t)

    y, step = start, 1 / num_steps
    if solver == "euler":
        for i in range(num_steps):
            y = y + step * velocity(i * step, y)
        return y
    odeint, found = optional_import("torchdiffeq", name="odeint")
    if not found:
        raise ImportError(f"solver {solver!r} needs torchdiffeq: pip install 'monai_stochseg[flow]', or take 'euler'.")
    options = {"step_size": step} if solver in _FIXED else None
    end = 1.0 if field == "start" else 1 - step  # the second field has no value at 1
    if end > 0:
        y = odeint(
            velocity, y, torch.tensor([0.0, end], dtype=y.dtype, device=y.device), method=solver, options=options
        )[-1]
    return y if end == 1 else y + step * velocity(end, y)


class FlowDistribution(PredictiveDistribution):
    """
    Label maps at the end of a flow that begins in a normal of unit deviation (Ribeiro et al. 2025,
    https://arxiv.org/abs/2507.18838).

    Args:
        mean: of the start, ``[B, C, *S]``.
        categorical: see :py:func:`integrate_flow`.
        num_steps: see :py:func:`integrate_flow`.
        field: see :py:func:`integrate_flow`.
        solver: see :py:func:`integrate_flow`.

    Raises:
        ValueError: when the shape does not fit; at a draw, for other options than those of :py:func:`integrate_flow`.
    """

    @check_arguments
    def __init__(
        self,
        mean: torch.Tensor,
        categorical: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        num_steps: int = 10,
        field: str = "start",
        solver: str = "euler",
    ) -> None:
        check_axes("[B, C, *S]", 3, mean=mean)
        check_at_least(1, num_steps=num_steps)
        self.mean = full_precision(mean)
        self._categorical = categorical
        self._options = (
            num_steps,
            check_option("field", field, FIELDS),
            check_option("solver", solver, SOLVERS),
        )

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        device = self.mean.device if generator is None else generator.device
        noise = (
            torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype) for _ in range(n)
        )
        return self.decode(torch.stack([own.to(self.mean.device) for own in noise], dim=1))

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The logits at the end of the path from the mean, without gradients, ``[B, C, *S]``."""
        return self.decode(torch.zeros_like(self.mean)[:, None])[:, 0]

    @check_arguments
    @torch.no_grad()
    def decode(self, noise: torch.Tensor) -> torch.Tensor:
        """The logits of given standard normal noise ``[B, n, C, *S]``, without gradients, ``[B, n, C, *S]``."""
        return self.ends(noise).clamp(LEAST_PROBABILITY, 1).log()

    @check_arguments
    @torch.no_grad()
    def ends(self, noise: torch.Tensor) -> torch.Tensor:
        """The ends of the paths of given noise, both ``[B, n, C, *S]``: probabilities, but for rounding."""
        if noise.ndim != self.mean.ndim + 1 or not noise.shape[1] or noise[:, 0].shape != self.mean.shape:
            raise ValueError(f"noise must be [B, n, C, *S] of mean {tuple(self.mean.shape)}, got {tuple(noise.shape)}.")
        ends = [integrate_flow(self._categorical, self.mean + own, *self._options) for own in noise.unbind(1)]
        return torch.stack(ends, dim=1)
