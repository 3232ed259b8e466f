# SPDX-License-Identifier: Apache-2.0
"""Regression of two modes by Calibrated Adversarial Refinement, its calibration loss on and off: nine data sets."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from monai_stochseg.losses import CalibrationLoss, DiscriminatorLoss, LogitAdversarialLoss

PI = (0.5, 0.6, 0.9)
SIGMA = (0.01, 0.02, 0.03)
# The paper: a learning rate of 1e-4, which is an option. The authors' code: 1500 steps of 1000 points for the
# calibration network, 5000 of 100 then.
LEARNING_RATE = 5e-4
CALIBRATION_STEPS, CALIBRATION_BATCH = 800, 200
STEPS, BATCH = 2000, 50
NUM_SAMPLES = 10  # of the calibration loss, as theirs
HISTORY_STEPS = 100


class Fork(NamedTuple):
    """
    The data of Kassapis et al. 2021 (https://arxiv.org/abs/2006.13144), equation 8: x is uniform on [0, 1], and y is
    normal with deviation sigma around c(x) with probability pi, else around -c(x); c is 0.5, falls from x = 0.4 on and
    is 0 from x = 0.8 on.
    """

    pi: float
    sigma: float

    @staticmethod
    def centre(x: torch.Tensor) -> torch.Tensor:
        return (1 - 1.25 * x).clamp(0, 0.5)

    def draw(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y, each ``[n, 1]``."""
        x, mode = torch.rand(2, n, 1, generator=generator)
        noise = self.sigma * torch.randn(n, 1, generator=generator)
        return x, torch.where(mode < self.pi, 1, -1) * self.centre(x) + noise

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return (2 * self.pi - 1) * self.centre(x)

    def log_prob(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        modes = torch.stack([self.centre(x), -self.centre(x)])
        log_pi = torch.tensor([self.pi, 1 - self.pi]).log().reshape(2, *[1] * y.dim())
        return (log_pi + torch.distributions.Normal(modes, self.sigma).log_prob(y)).logsumexp(0)


class Fit(NamedTuple):
    """A trained generator, its calibration network, and the log-likelihood of samples every `HISTORY_STEPS` steps."""

    generator: nn.Module
    calibration: nn.Module
    history: list[float]


def mlp(in_features: int, activation: type[nn.Module]) -> nn.Sequential:
    """Four hidden layers of 64, and one number out."""
    widths = [in_features, 64, 64, 64, 64]
    layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), activation())]
    return nn.Sequential(*layers, nn.Linear(64, 1))


def sample(
    network: nn.Module, x: torch.Tensor, target: torch.Tensor, n: int, generator: torch.Generator
) -> torch.Tensor:
    """n samples of y for each x, ``[B, n, 1]``; the generator network sees x, the calibration target and a code."""
    given = torch.cat([x, target], 1)[:, None].expand(-1, n, -1)
    result: torch.Tensor = network(torch.cat([given, torch.randn(len(x), n, 1, generator=generator)], 2))
    return result


def train_calibration(data: Fork, generator: torch.Generator, learning_rate: float) -> nn.Module:
    """The first stage: the mean of y given x, by least squares, frozen then."""
    network = mlp(1, nn.ReLU)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate, fused=True)
    for _ in range(CALIBRATION_STEPS):
        x, y = data.draw(CALIBRATION_BATCH, generator)
        optimizer.zero_grad()
        F.mse_loss(network(x), y).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def train(data: Fork, calibration_weight: float, seed: int = 0, learning_rate: float = LEARNING_RATE) -> Fit:
    """Both stages. `calibration_weight` is lambda; 0 trains a conditional GAN."""
    torch.manual_seed(seed)  # of the weights
    rng = torch.Generator().manual_seed(seed)
    calibration = train_calibration(data, rng, learning_rate)
    network, judge = mlp(3, nn.LeakyReLU), mlp(2, nn.LeakyReLU)
    optimizers = [torch.optim.Adam(net.parameters(), learning_rate, fused=True) for net in (network, judge)]
    adversarial, calibrating = LogitAdversarialLoss(), CalibrationLoss("gaussian")
    judging = DiscriminatorLoss(r1_weight=0)
    num_samples = NUM_SAMPLES if calibration_weight else 1  # a GAN needs one, and collapses with 10 too

    def discriminator(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = judge(torch.cat([x, y], 1))
        return logits

    history = []
    for step in range(STEPS):
        x, y = data.draw(BATCH, rng)
        target = calibration(x)
        fakes = sample(network, x, target, num_samples, rng)
        for optimizer in optimizers:
            optimizer.zero_grad()
        judging(discriminator, x, y, fakes[:, 0]).loss.backward()
        optimizers[1].step()
        logits = discriminator(x.repeat_interleave(num_samples, 0), fakes.flatten(0, 1))
        loss = adversarial(logits, True, for_discriminator=False)
        if calibration_weight:
            loss = loss + calibration_weight * calibrating(fakes, target)
        loss.backward()
        optimizers[0].step()
        if (step + 1) % HISTORY_STEPS == 0:
            history.append(evaluate(data, Fit(network, calibration, []), samples_per_x=10)["log-likelihood"])
    return Fit(network, calibration, history)


@torch.no_grad()
def samples_of(fit: Fit, x: torch.Tensor, n: int, seed: int = 1) -> torch.Tensor:
    """n samples of y for each x, ``[B, n]``."""
    return sample(fit.generator, x, fit.calibration(x), n, torch.Generator().manual_seed(seed))[..., 0]


@torch.no_grad()
def evaluate(data: Fork, fit: Fit, samples_per_x: int = 500) -> dict[str, float]:
    """
    ``upper``: share of the samples above 0, those of the upper mode, for x below 0.4, where the modes are far apart.

    ``log-likelihood``: mean of log(p(sample | x) + 1e-11) under the true density, as the authors measure it: it sees
    samples that are off the modes, and not a mode that is missing.

    ``gap``: mean absolute difference between the samples' mean and the calibration target; ``target error``: that
    between this target and the true mean.
    """
    x = torch.linspace(0, 1, 201)[:, None]
    y, target = samples_of(fit, x, samples_per_x), fit.calibration(x)
    return {
        "upper": float((y[x[:, 0] < 0.4] > 0).double().mean()),
        "log-likelihood": float((data.log_prob(x, y).exp() + 1e-11).log().mean()),
        "gap": float((y.mean(1, keepdim=True) - target).abs().mean()),
        "target error": float((target - data.mean(x)).abs().mean()),
    }


def plot_fit(ax: Axes, data: Fork, fit: Fit) -> None:
    """Samples, their mean, and the calibration target, over the two modes and the likelihood of the data."""
    x = torch.linspace(0, 1, 201)[:, None]
    heights = torch.linspace(-0.8, 0.8, 161)
    density = data.log_prob(x, heights.expand(len(x), -1)).exp()
    shown = (density / density.amax(1, keepdim=True)).T  # of each x by its highest, which grows where the modes meet
    ax.imshow(shown, extent=(0, 1, -0.8, 0.8), origin="lower", aspect="auto", cmap="Greys", alpha=0.4)
    y = samples_of(fit, x, 200)
    for sign in (1, -1):
        ax.plot(x, sign * data.centre(x), color="black", linewidth=0.8, label="mode" if sign == 1 else None)
    ax.plot(x.expand(-1, 10).flatten(), y[:, :10].flatten(), ".", color="tab:blue", markersize=1, label="sample")
    with torch.no_grad():
        ax.plot(x, fit.calibration(x), color="tab:orange", label="calibration target")
    ax.plot(x, y.mean(1), "--", color="tab:red", label="mean of the samples")
    ax.set(xlim=(0, 1), ylim=(-0.8, 0.8))


def plot_fits(fits: Mapping[tuple[Fork, float], Sequence[Fit]]) -> Figure:
    """The first seed on all data sets with both weights; all seeds' log-likelihoods, their median and quartiles."""
    figure = Figure(figsize=(14, 10), layout="constrained")
    weights = sorted({weight for _, weight in fits}, reverse=True)
    panels, curve = figure.subfigures(2, 1, height_ratios=(3, 1.3))
    columns = list(itertools.product(weights, SIGMA))
    axes = panels.subplots(len(PI), len(columns), sharex=True, sharey=True)
    for row, pi in zip(axes, PI, strict=True):
        for ax, (weight, sigma) in zip(row, columns, strict=True):
            data = Fork(pi, sigma)
            plot_fit(ax, data, fits[data, weight][0])
            upper = evaluate(data, fits[data, weight][0])["upper"]
            ax.set_title(f"λ = {weight:g}, σ = {sigma}, π = {pi}:\n{upper:.0%} above", fontsize=8)
    panels.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    ax = curve.subplots()
    for weight, colour in zip(weights, ("tab:orange", "tab:blue"), strict=True):
        histories = torch.tensor([fit.history for (_, each), runs in fits.items() if each == weight for fit in runs])
        steps = HISTORY_STEPS * torch.arange(1, histories.shape[1] + 1)
        ax.plot(steps, histories.T, color=colour, linewidth=0.5, alpha=0.5)
        low, median, high = histories.quantile(torch.tensor([0.25, 0.5, 0.75]), 0)
        ax.fill_between(steps, low, high, color=colour, alpha=0.2)
        ax.plot(steps, median, color=colour, label=f"λ = {weight:g}, median and quartiles")
    ax.set(xlabel="step", ylabel="log-likelihood of samples")
    ax.legend(frameon=False)
    return figure


def _quartiles(values: Sequence[float]) -> str:
    """The median, of several seeds with the quartiles."""
    low, median, high = torch.tensor(values).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    return f"{median:.3f}" if len(values) == 1 else f"{median:.3f} ({low:.3f} to {high:.3f})"


def table(fits: Mapping[tuple[Fork, float], Sequence[Fit]]) -> Iterator[str]:
    """The lines of a table in Markdown, of several seeds their medians and quartiles."""
    yield "| π | σ | λ | log-likelihood | of true samples | share above | gap to the target |"
    yield "| --- " * 7 + "|"
    for (data, weight), runs in fits.items():
        each = [evaluate(data, fit) for fit in runs]
        found = {name: _quartiles([values[name] for values in each]) for name in each[0]}
        truth = float(data.log_prob(*data.draw(100_000, torch.Generator().manual_seed(0))).mean())
        yield (
            f"| {data.pi} | {data.sigma} | {weight:g} | {found['log-likelihood']} | {truth:.2f} "
            f"| {found['upper']} | {found['gap']} |"
        )


def main(out: str | None = None, seed: int = 0, seeds: int = 1, learning_rate: float = LEARNING_RATE) -> None:
    torch.set_num_threads(1)  # the networks are small
    configurations = [(Fork(pi, sigma), weight) for pi in PI for sigma in SIGMA for weight in (1.0, 0.0)]
    several = range(seed, seed + seeds)
    fits = {key: [train(*key, seed=each, learning_rate=learning_rate) for each in several] for key in configurations}
    print("\n".join(table(fits)))
    if out is not None:
        plot_fits(fits).savefig(out, dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="file of the figure")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="their number; the paper's is 5")
    parser.add_argument("--learning_rate", type=float, default=LEARNING_RATE, help="the paper's is 1e-4")
    main(**vars(parser.parse_args()))
