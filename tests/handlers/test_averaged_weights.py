# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import EPOCH_LENGTH, Training, make_network, make_training
from torch import nn

from monai_stochseg.handlers import AveragedWeights


def make(folder: Path, decay: float = 0.9, **kwargs) -> tuple[Training, AveragedWeights]:
    """A training whose evaluator judges the average, which the checkpoint keeps."""
    network = make_network()
    averaged = AveragedWeights(network, decay)
    training = make_training(
        folder,
        network=network,
        handlers=[averaged],
        extra={"averaged": averaged},
        best_network=averaged.network,
        **kwargs,
    )
    training.evaluator.network = averaged.network
    return training, averaged


def assert_equal(one, two) -> None:
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


def test_the_average_is_that_of_the_steps(tmp_path):
    training, averaged = make(tmp_path, decay=0.3)
    states = [{k: v.clone() for k, v in training.network.state_dict().items()}]
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: states.append({k: v.clone() for k, v in training.network.state_dict().items()}),
    )
    training.run()
    expected = states[1]  # the first step is taken whole
    for n, state in enumerate(states[2:], 1):
        decay = min(0.3, (1 + n) / (10 + n))
        expected = {k: decay * v + (1 - decay) * state[k] for k, v in expected.items()}
    found = averaged.network.state_dict()
    for key in ("0.weight", "1.running_mean", "4.bias"):
        torch.testing.assert_close(found[key], expected[key])
        assert not torch.equal(found[key], states[-1][key])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_average_of_a_network_that_learns_four_images_has_learned_them(spatial_dims):
    """Images and volumes, each step under autocast; the average is in float32."""
    torch.manual_seed(0)
    image = torch.randn(4, 1, *[8] * spatial_dims)
    label = (image[:, 0] > 0).long()
    conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    network = nn.Sequential(conv(1, 8, 1), nn.ReLU(), conv(8, 2, 1))
    averaged = AveragedWeights(network, decay=0.9)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)

    def step(engine: Engine, batch: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(batch)
        nn.functional.cross_entropy(logits.float(), label).backward()
        optimizer.step()

    trainer = Engine(step)
    averaged.attach(trainer)
    trainer.run([image], max_epochs=100)
    assert all(p.dtype == torch.float32 for p in averaged.network.parameters())
    with torch.no_grad():
        assert (averaged.network(image).argmax(1) == label).float().mean() > 0.95
    assert not torch.equal(averaged.network[0].weight, network[0].weight)


def test_validation_sees_the_average_and_training_is_not_disturbed(tmp_path):
    training, averaged = make(tmp_path / "averaged")
    seen = []
    training.evaluator.add_event_handler(Events.STARTED, lambda engine: seen.append(engine.network is averaged.network))
    training.run()
    assert seen == [True, True]
    plain = make_training(tmp_path / "plain").run()
    assert_equal(plain.network.state_dict(), training.network.state_dict())


def test_the_best_file_has_the_average_and_the_last_the_trained_weights(tmp_path):
    training, averaged = make(tmp_path, values=(0.5, 0.4))
    training.run()
    best = torch.load(tmp_path / "model_best.pt", weights_only=True)["network"]
    assert_equal(best, averaged.network.state_dict())
    last = torch.load(tmp_path / "model_last.pt", weights_only=True)
    assert_equal(last["network"], training.network.state_dict())
    assert not torch.equal(last["network"]["0.weight"], best["0.weight"])


@pytest.mark.parametrize("event", [Events.EPOCH_STARTED(once=2), Events.ITERATION_COMPLETED(once=EPOCH_LENGTH + 1)])
def test_a_resumed_average_is_that_of_an_uninterrupted_training(tmp_path, event):
    whole, average = make(tmp_path / "whole", max_epochs=3)
    whole.run()

    def interrupt() -> None:
        raise KeyboardInterrupt

    stopped, _ = make(tmp_path / "parts", max_epochs=3)
    stopped.trainer.add_event_handler(event, interrupt)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed, again = make(tmp_path / "parts", max_epochs=3, resume=True)
    resumed.run()
    assert_equal(average.state_dict(), again.state_dict())
    assert_equal(whole.network.state_dict(), resumed.network.state_dict())


def test_weights_that_were_loaded_at_the_start_are_where_the_average_begins():
    network = nn.Linear(1, 1)
    averaged = AveragedWeights(network)
    with torch.no_grad():
        network.weight.fill_(3)
    averaged._start()
    assert averaged.network.weight.item() == 3


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, True, float("nan")])
def test_rejects_decays(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \(0, 1\), got"):
        AveragedWeights(nn.Linear(1, 1), decay)
