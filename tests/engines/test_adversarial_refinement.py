# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines.utils import IterationEvents
from monai.networks import one_hot
from torch import distributed, multiprocessing, nn
from torch.nn.functional import softplus

from monai_stochseg.engines import AdversarialRefinementTrainer
from monai_stochseg.networks.nets import CalibratedAdversarialRefinement, RefinementDiscriminator, RefinementNetwork

SAMPLES, BATCH, VOID = 3, 2, 255
EVENTS = [IterationEvents.FORWARD_COMPLETED, IterationEvents.LOSS_COMPLETED]
EVENTS += [IterationEvents.BACKWARD_COMPLETED, IterationEvents.MODEL_COMPLETED]


def make_network() -> CalibratedAdversarialRefinement:
    torch.manual_seed(0)
    calibration = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))
    return CalibratedAdversarialRefinement(calibration, RefinementNetwork(2, 1, 2, latent_dim=2, channels=(4, 8)))


def make_dataset(seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(BATCH * 4, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 2, (len(images), 4, 8, 8), generator=generator)
    labels[:, :, 0] = VOID
    return Dataset([{"image": x, "label": y} for x, y in zip(images, labels, strict=True)])


def gap(output, label, rater_weights):
    """A consistency loss that takes the label and its weights too."""
    assert label.shape[1] == 4
    assert rater_weights is None
    return (output.logits.softmax(2).mean(1) - output.calibration).square().mean()


def make_trainer(epochs: int = 1, **kwargs) -> AdversarialRefinementTrainer:
    network = kwargs.pop("network", None) or make_network()
    discriminator = kwargs.pop("discriminator", None) or RefinementDiscriminator(2, 1, 2, channels=(4, 8))
    return AdversarialRefinementTrainer(
        **{
            "device": torch.device("cpu"),
            "max_epochs": epochs,
            "train_data_loader": DataLoader(make_dataset(kwargs.pop("seed", 0)), batch_size=BATCH),
            "network": network,
            "optimizer": torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=0.01),
            "loss_function": gap,
            "discriminator": discriminator,
            "discriminator_optimizer": torch.optim.Adam(discriminator.parameters(), lr=0.01),
            "num_samples": SAMPLES,
            "ignore_index": VOID,
            "decollate": False,
            **kwargs,
        }
    )


def states(trainer: AdversarialRefinementTrainer, module: nn.Module) -> list[dict]:
    """The module's state before the run and after each iteration."""
    seen = [copy.deepcopy(module.state_dict())]
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(copy.deepcopy(module.state_dict())))
    trainer.run()
    return seen


def changed(a: dict, b: dict) -> bool:
    return any(not torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("d_on", "d_off", "steps"),
    [(1, 2, [1, 0, 0, 1, 0, 0, 1, 0]), (2, 1, [1, 1, 0, 1, 1, 0, 1, 1]), (3, 0, [1] * 8), (50, 200, [1] * 8)],
)
def test_the_discriminator_follows_its_schedule_and_the_generator_steps_always(d_on, d_off, steps):
    trainer = make_trainer(2, d_on=d_on, d_off=d_off)
    reported = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: reported.append("discriminator_loss" in engine.state.output)
    )
    generator = [copy.deepcopy(trainer.network.refinement.state_dict())]
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: generator.append(copy.deepcopy(trainer.network.refinement.state_dict()))
    )
    seen = states(trainer, trainer.discriminator)
    assert [changed(*pair) for pair in pairwise(seen)] == [bool(step) for step in steps] == reported
    assert all(changed(*pair) for pair in pairwise(generator))


def test_the_discriminator_takes_no_gradient_from_the_generators_loss():
    trainer = make_trainer(d_on=1, d_off=3, optim_set_to_none=True)
    gradients = []

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def look(engine):
        gradients.append([p.grad is not None for p in engine.discriminator.parameters()])
        assert all(p.requires_grad for p in engine.discriminator.parameters())
        assert all(p.grad.any() for p in engine.network.refinement.parameters())
        assert all(p.grad is None for p in engine.network.calibration.parameters())

    trainer.run()
    assert [(any(g), all(g)) for g in gradients] == [(True, True)] + [(False, False)] * 3


def wasserstein(discriminator, x, real, fake):
    """A loss that does not cut the gradient of the samples."""
    return SimpleNamespace(loss=discriminator(x, fake).mean() - discriminator(x, real).mean())


def test_the_generator_takes_no_gradient_from_the_discriminators_loss():
    ends = []
    for max_accuracy in (None, 1e-6):  # the second never lets it step
        trainer = make_trainer(discriminator_loss=wasserstein, max_accuracy=max_accuracy, epoch_length=1)
        ends.append(states(trainer, trainer.network)[-1])
        assert ("discriminator_loss" in trainer.state.output) == (max_accuracy is None)
    assert not changed(*ends)


class _Unguarded(CalibratedAdversarialRefinement):
    """Does not keep its calibration network in evaluation mode."""

    def train(self, mode: bool = True) -> _Unguarded:
        return nn.Module.train(self, mode)


def test_batch_norm_moves_once_and_the_calibration_network_never():
    network = make_network()
    trainer = make_trainer(network=_Unguarded(network.calibration, network.refinement))
    first, *_, last = states(trainer, trainer.network)
    assert not changed(*({k: v for k, v in s.items() if k.startswith("calibration.")} for s in (first, last)))
    counts = [v for k, v in last.items() if k.startswith("refinement.") and k.endswith("num_batches_tracked")]
    assert counts
    assert all(count == trainer.state.iteration == 4 for count in counts)


def test_the_loss_is_made_of_its_weighted_terms():
    trainer = make_trainer(epoch_length=1, adversarial_weight=3.0, calibration_weight=7.0)
    discriminator = copy.deepcopy(trainer.discriminator)
    trainer.run()
    output = trainer.state.output
    logits = discriminator(output["image"].repeat_interleave(SAMPLES, 0), output["fakes"])
    torch.testing.assert_close(output["fake_logits"], logits)
    torch.testing.assert_close(output["generator_loss"], softplus(-logits).mean())
    torch.testing.assert_close(output["reconstruction_loss"], gap(output["pred"], output["label"], None))
    torch.testing.assert_close(output["loss"], 3 * output["generator_loss"] + 7 * output["reconstruction_loss"])
    right = torch.cat([output["real_logits"] > 0] * SAMPLES + [output["fake_logits"] <= 0]).double().mean()
    assert output["discriminator_accuracy"] == pytest.approx(float(right))


def test_reals_are_a_rater_of_each_image_and_void_is_seen_by_none():
    trainer = make_trainer(8)
    raters = set()

    @trainer.on(Events.ITERATION_COMPLETED)
    def look(engine):
        output = engine.state.output
        valid = output["label"] != VOID
        maps = one_hot((output["label"] * valid).flatten(0, 1)[:, None], 2) * valid.flatten(0, 1)[:, None]
        for real, item in zip(output["reals"], maps.unflatten(0, (BATCH, 4)), strict=True):
            (rater,) = (i for i in range(4) if torch.equal(real, item[i]))
            raters.add(rater)
        samples = output["pred"].logits.softmax(2) * valid[:, :1, None]
        assert torch.equal(output["fakes"], samples.flatten(0, 1))
        assert not output["fakes"][:, :, 0].any()

    trainer.run()
    assert raters == set(range(4))


class _Scripted(nn.Module):
    """Takes ``real`` of the one-hot maps for a rater's, and every sample for a sample."""

    def __init__(self, real: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.real = real

    def forward(self, x, segmentation):
        whole = ((segmentation == 0) | (segmentation == 1)).flatten(1).all(1, keepdim=True)
        return (whole * self.real * 2.0 - 1) * self.weight + 0 * (segmentation.sum() + x.sum())


@pytest.mark.parametrize(("real", "max_accuracy", "steps"), [(True, 0.9, False), (False, 0.9, True), (True, 1.0, True)])
def test_the_discriminator_pauses_above_its_accuracy(real, max_accuracy, steps):
    trainer = make_trainer(discriminator=_Scripted(real), max_accuracy=max_accuracy)
    first, *_, last = states(trainer, trainer.discriminator)
    assert trainer.state.output["discriminator_accuracy"] == (1.0 if real else 0.5)
    assert changed(first, last) == steps


def test_all_events_fire_once_in_their_order():
    trainer = make_trainer(epoch_length=2, d_on=1, d_off=1)
    fired = []
    for event in EVENTS:
        trainer.add_event_handler(event, lambda _, event=event: fired.append(event))
    trainer.run()
    assert fired == EVENTS * 2


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled")
def test_autocast_trains_both_networks():
    trainer = make_trainer(amp=True, amp_kwargs={"dtype": torch.bfloat16})
    first, *_, last = states(trainer, trainer.discriminator)
    assert changed(first, last)
    assert trainer.state.output["loss"].isfinite()


def _accurate_rank(rank, folder):
    distributed.init_process_group("gloo", f"file://{folder}/init", rank=rank, world_size=2)
    trainer = make_trainer(discriminator=_Scripted(bool(rank)), max_accuracy=0.9, epoch_length=1)
    first, last = states(trainer, trainer.discriminator)
    (folder / f"{rank}").write_text(str(changed(first, last)))
    distributed.destroy_process_group()


def test_processes_agree_whether_the_discriminator_pauses(tmp_path):
    # accuracies of 0.5 and 1.0, a mean of 0.75
    multiprocessing.start_processes(_accurate_rank, (tmp_path,), nprocs=2, start_method="fork")
    assert [(tmp_path / f"{rank}").read_text() for rank in range(2)] == ["True", "True"]


def _rank(rank, folder):
    distributed.init_process_group("gloo", f"file://{folder}/init", rank=rank, world_size=2)
    network, discriminator = (
        nn.parallel.DistributedDataParallel(module)
        for module in (make_network(), RefinementDiscriminator(2, 1, 2, channels=(4, 8)))
    )
    trainer = make_trainer(
        2, network=network, discriminator=discriminator, d_on=2, d_off=1, max_accuracy=0.9, seed=rank
    )
    torch.manual_seed(rank)
    steps = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: steps.append("discriminator_loss" in engine.state.output)
    )
    first = copy.deepcopy(discriminator.state_dict())
    trainer.run()
    assert any(steps)
    assert changed(first, discriminator.state_dict())
    weights = [dict(module.named_parameters()) for module in (network, discriminator)]
    torch.save([*weights, trainer.state.output["image"]], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_end_with_equal_weights(tmp_path):
    multiprocessing.start_processes(_rank, (tmp_path,), nprocs=2, start_method="fork")
    (*ours, image), (*theirs, other) = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert not torch.equal(image, other)
    assert not any(changed(*pair) for pair in zip(ours, theirs, strict=True))


def _unfrozen() -> CalibratedAdversarialRefinement:
    network = make_network()
    network.calibration.requires_grad_(True)
    return network


class _Normalised(RefinementDiscriminator):
    def __init__(self) -> None:
        super().__init__(2, 1, 2, channels=(4, 8))
        self.norm = nn.BatchNorm1d(1)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"network": nn.Conv2d(1, 2, 1)}, TypeError, "must have a calibration network.* Conv2d has none"),
        ({"network": _unfrozen}, ValueError, "is not frozen, 6 of its parameters .* first 0.weight: .*requires_grad_"),
        ({"discriminator": _Normalised}, ValueError, "discriminator has batch norm"),
        ({"d_on": 0}, ValueError, "at least 1 iteration of a cycle.* got d_on=0, d_off=200"),
        ({"d_on": 0, "d_off": 0}, ValueError, "got d_on=0, d_off=0"),
        ({"d_off": -1}, ValueError, "got d_on=50, d_off=-1"),
        ({"max_accuracy": 0.0}, ValueError, r"max_accuracy must be in \(0, 1\], .* got 0.0"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"accumulation_steps": 2}, ValueError, "accumulation_steps must be 1, .* got 2"),
    ],
)
def test_rejects(kwargs, error, match):
    made = {k: v() if callable(v) and not isinstance(v, nn.Conv2d) else v for k, v in kwargs.items()}
    with pytest.raises(error, match=match):
        make_trainer(**made)


def test_rejects_labels_outside_the_classes():
    with pytest.raises(ValueError, match="label has label 255, outside the 2 classes"):
        make_trainer(ignore_index=None).run()
