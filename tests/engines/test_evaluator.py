# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.transforms import AsDiscreted
from torch import nn

from monai_stochseg.distributions import HypothesesDistribution, weights_of
from monai_stochseg.engines import AnswerEvaluator, StochasticEvaluator
from monai_stochseg.metrics import GeneralizedEnergyDistanceMetric
from monai_stochseg.networks.nets import BayesianProbabilisticUNet, StochasticSegmentationNetwork


def network() -> StochasticSegmentationNetwork:
    torch.manual_seed(0)
    return StochasticSegmentationNetwork(nn.Conv2d(1, 4, 1), 4, 3, rank=2, spatial_dims=2, covariance_init=1.0)


def loader(with_label: bool = True) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    items = []
    for i in range(3):
        affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
        image = MetaTensor(
            torch.randn(1, 6, 5, generator=generator), affine=affine, meta={"filename_or_obj": f"{i}.nii"}
        )
        item = {"image": image, "mask": torch.ones(1, 6, 5)}
        item["mask"][..., 0] = 0
        if with_label:
            item["label"] = torch.randint(0, 3, (4, 6, 5), generator=generator)
        items.append(item)
    return DataLoader(Dataset(items), batch_size=2)


def run(**kwargs) -> list[dict]:
    evaluator = StochasticEvaluator(
        "cpu", kwargs.pop("loader", None) or loader(), network(), **{"num_samples": 5, **kwargs}
    )
    outputs: list[dict] = []
    evaluator.add_event_handler("ITERATION_COMPLETED", lambda engine: outputs.extend(engine.state.output))
    evaluator.run()
    outputs.append(evaluator.state.metrics)
    return outputs


def test_outputs_are_found_by_key():
    *items, _ = run()
    assert len(items) == 3
    for item in items:
        assert item["pred"].shape == item["probabilities"].shape == (3, 6, 5)
        assert item["samples"].shape == (5, 6, 5)
        assert item["samples"].dtype == torch.uint8
        assert item["label"].shape == (4, 6, 5)
        assert "sample_weights" not in item
        for key in ("pred", "probabilities"):
            torch.testing.assert_close(item[key].sum(0).as_tensor(), torch.ones(6, 5))
        assert item["samples"].affine.diagonal().tolist() == [2, 3, 1, 1]
    assert items[2]["pred"].meta["filename_or_obj"] == "2.nii"


def test_pred_is_the_mode_and_probabilities_the_marginal():
    item = run(num_samples=64)[0]
    predictive = network().eval().predictive(next(iter(loader()))["image"])
    torch.testing.assert_close(item["pred"].as_tensor(), predictive.mode_logits().softmax(1)[0])
    generator = torch.Generator().manual_seed(0 + 1)
    torch.testing.assert_close(
        item["probabilities"].as_tensor(), predictive.sample_logits(64, generator).softmax(2).mean(1)[0]
    )


def test_runs_replay_and_the_seed_matters():
    one, two, other = (torch.stack([i["samples"] for i in run(seed=s)[:-1]]) for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_probabilities_given_each_draw_of_the_weights():
    """After the samples, which stay the same; those of the distribution given the weights."""
    torch.manual_seed(0)
    net = BayesianProbabilisticUNet(2, 1, 3, (2, 4), latent_dim=2, log_std=0.5)

    def items(**kwargs) -> list[dict]:
        outputs: list[dict] = []
        evaluator = StochasticEvaluator("cpu", loader(), net, num_samples=3, **kwargs)
        evaluator.add_event_handler("ITERATION_COMPLETED", lambda engine: outputs.extend(engine.state.output))
        evaluator.run()
        return outputs

    with_draws, without = items(uncertainty_draws=(4, 2)), items()
    assert "weight_probabilities" not in without[0]
    for a, b in zip(with_draws, without, strict=True):
        assert torch.equal(a["samples"], b["samples"])
        assert a["weight_probabilities"].shape == (4, 3, 6, 5)
    predictive = net.eval().predictive(next(iter(loader()))["image"])
    generator = torch.Generator().manual_seed(0 + 1)
    predictive.sample_logits(3, generator)
    for draw in range(4):
        samples = predictive.given_weights(generator).sample_logits(2, generator)
        torch.testing.assert_close(with_draws[0]["weight_probabilities"][draw], samples.softmax(2).mean(1)[0])


def test_no_draw_of_weights_that_are_not_random():
    with pytest.raises(TypeError, match="LowRankNormal has no random weights"):
        run(uncertainty_draws=(2, 2))
    with pytest.raises(ValueError, match=r"uncertainty_draws must be the numbers .* got \(2, 0\)"):
        run(uncertainty_draws=(2, 0))


def test_the_mask_makes_background():
    for item in run(mask_key="mask")[:-1]:
        assert (item["samples"][..., 0] == 0).all()
        assert (item["samples"][..., 1:] != 0).any()


def test_inference_without_labels():
    *items, _ = run(loader=loader(with_label=False))
    assert items[0]["samples"].shape == (5, 6, 5)


def test_metrics_and_postprocessing():
    *items, metrics = run(
        key_val_metric={
            "ged": IgniteMetricHandler(
                metric_fn=GeneralizedEnergyDistanceMetric(3),
                output_transform=from_engine(["samples", "label"]),
            )
        },
        postprocessing=AsDiscreted("pred", argmax=True),
    )
    assert items[0]["pred"].shape == (1, 6, 5)
    expected = GeneralizedEnergyDistanceMetric(3)
    expected([i["samples"] for i in items], [i["label"] for i in items])
    assert metrics["ged"] == pytest.approx(expected.aggregate().item())


def test_weights_of_the_label_reach_the_metrics():
    items = [
        {"image": torch.zeros(1, 6, 5), "label": torch.stack([torch.zeros(6, 5), torch.ones(6, 5)]), "rater_weights": p}
        for p in (torch.tensor([0.25, 0.75]), torch.tensor([1.0, 0.0]))
    ]
    *outputs, metrics = run(
        loader=DataLoader(Dataset(items), batch_size=2),
        key_val_metric={
            "ged": IgniteMetricHandler(
                metric_fn=GeneralizedEnergyDistanceMetric(3),
                output_transform=from_engine(["samples", "label"]),
            )
        },
    )
    assert [item["rater_weights"].tolist() for item in outputs] == [[0.25, 0.75], [1, 0]]
    assert [weights_of(item["label"]).tolist() for item in outputs] == [[0.25, 0.75], [1, 0]]
    expected = GeneralizedEnergyDistanceMetric(3)
    for output, item in zip(outputs, items, strict=True):
        expected(output["samples"][None], item["label"][None], y_weights=item["rater_weights"][None])
    assert metrics["ged"] == pytest.approx(expected.aggregate().item())


class Weighted(nn.Module):
    """Two constant answers of weights 0.25 and 0.75."""

    def predictive(self, x):
        logits = 9 * torch.eye(2).reshape(1, 2, 2, 1, 1).expand(len(x), -1, -1, 6, 5)
        distribution = HypothesesDistribution(logits)
        distribution.sample_logits = lambda n, generator=None: logits
        distribution.weights = torch.tensor([[0.25, 0.75]]).expand(len(x), -1)
        return distribution


def test_weights_of_the_samples_reach_the_metrics():
    metric = IgniteMetricHandler(
        metric_fn=GeneralizedEnergyDistanceMetric(2), output_transform=from_engine(["samples", "label"])
    )
    items = [{"image": MetaTensor(torch.zeros(1, 6, 5)), "label": torch.zeros(1, 6, 5)} for _ in range(3)]
    loader = DataLoader(Dataset(items), batch_size=3)
    evaluator = StochasticEvaluator("cpu", loader, Weighted(), num_samples=2, key_val_metric={"ged": metric})
    evaluator.run()
    for item in evaluator.state.output:
        assert item["sample_weights"].tolist() == weights_of(item["samples"]).tolist() == [0.25, 0.75]
        assert "rater_weights" not in item
        assert weights_of(item["label"]) is None
    # 2 * 0.75 from samples to the label, less 2 * 0.25 * 0.75 among samples
    assert evaluator.state.metrics["ged"] == pytest.approx(1.5 - 0.375)


def test_rater_weights_must_match_the_label():
    items = [{"image": torch.zeros(1, 6, 5), "label": torch.zeros(3, 6, 5), "rater_weights": torch.ones(2)}]
    with pytest.raises(ValueError, match=r"rater_weights must be \[1, 3\]"):
        run(loader=DataLoader(Dataset(items)))


def test_rejects():
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        run(num_samples=0)


@pytest.mark.parametrize("kind", [StochasticEvaluator, AnswerEvaluator])
def test_the_output_of_a_batch_without_a_case_is_empty(kind):
    evaluator = kind("cpu", [[]], network(), postprocessing=AsDiscreted("pred", argmax=True))
    evaluator.run()
    assert evaluator.state.output == []


def test_noise_is_that_of_the_batch_in_any_number_of_processes(monkeypatch):
    """The second of two processes has the second batch first."""
    whole = run()
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda group=None: 2)
    monkeypatch.setattr("torch.distributed.get_rank", lambda group=None: 1)
    second = [batch for i, batch in enumerate(loader()) if i == 1]
    (item, _) = run(loader=second)
    assert torch.equal(item["samples"], whole[2]["samples"])
