# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from monai_stochseg.data.dealt_batches import batch_number
from monai_stochseg.distributions import check_weights, with_weights
from monai_stochseg.distributions.base import plain
from monai_stochseg.inferers import PredictiveInferer, draw_samples


class StochasticEvaluator(SupervisedEvaluator):
    """
    MONAI's SupervisedEvaluator for networks that answer with a distribution. It writes, for metrics, post-transforms
    and savers to find by key:

    * ``pred``: probabilities of the single answer, the softmax of the distribution's mode, ``[C, *S]``;
    * ``probabilities``: marginal class probabilities over the samples, ``[C, *S]``;
    * ``samples``: label maps, ``[N, *S]``, uint8;
    * ``sample_weights``: ``[N]``, only where samples do not weigh the same;
    * ``expected_entropy``: with ``expected_entropy=True``, the mean entropy of the samples' softmax, ``[1, *S]``, what
      each sample leaves open: the entropy of ``probabilities`` less it is the mutual information of label and sample;
    * ``rater_weights``: ``[R]``, summing to 1, only where the batch has them: of the label's raters, or of the modes of
      a known truth such as :py:class:`monai_stochseg.transforms.ClassSwitchModesd` writes. A missing rater has 0.

    With ``uncertainty_draws`` of a network with random weights, such as
    :py:class:`monai_stochseg.networks.nets.BayesianProbabilisticUNet`, it writes besides

    * ``weight_probabilities``: the class probabilities given each of W draws of the weights, ``[W, C, *S]``, each a
      mean over samples that share the weights. They are drawn after the samples, which stay the same.

    ``samples`` and ``label`` carry their weights with them, so that MONAI's ``from_engine(["samples", "label"])`` gives
    the metrics of this package the weighted value.

    Every run of the evaluator draws the same noise, whatever was drawn before it, in any number of processes to which
    batches are dealt in turn. The output of a batch without a case, the empty list, is the empty list: the share of a
    process for which no case is left.

    Args:
        num_samples: number of samples N.
        inferer: maps ``(image, network, mask=)`` to a predictive distribution.
        mask_key: key of a region mask ``[B, 1, *S]`` in the batch, outside which samples are background.
        seed: seed of the samples' noise.
        chunk_size: samples held as logits at a time.
        uncertainty_draws: number W of draws of the weights, and of samples with each of them. Default: none.
        expected_entropy: whether to write ``expected_entropy``.
        kwargs: further arguments of MONAI's SupervisedEvaluator.

    Raises:
        ValueError: when num_samples or one of uncertainty_draws is below 1; at an iteration, when ``rater_weights`` do
            not match the label.
        TypeError: at an iteration, when ``uncertainty_draws`` are asked of a network without random weights.
    """

    def __init__(
        self,
        *args: Any,
        num_samples: int = 16,
        inferer: Callable | None = None,
        mask_key: str | None = None,
        seed: int = 0,
        chunk_size: int = 1,
        uncertainty_draws: tuple[int, int] | None = None,
        expected_entropy: bool = False,
        **kwargs: Any,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
        if uncertainty_draws is not None and (len(uncertainty_draws) != 2 or min(uncertainty_draws) < 1):
            raise ValueError(
                f"uncertainty_draws must be the numbers of weights and of samples of each, got {uncertainty_draws}."
            )
        super().__init__(*args, inferer=PredictiveInferer() if inferer is None else inferer, **kwargs)
        self.num_samples = num_samples
        self.mask_key = mask_key
        self.seed = seed
        self.chunk_size = chunk_size
        self.uncertainty_draws = uncertainty_draws
        self.expected_entropy = expected_entropy

    @property
    def noise_seed(self) -> int:
        """The seed with which the samples of the present batch are drawn."""
        return self.seed + batch_number(self.state.iteration)

    def _iteration(self, engine: StochasticEvaluator, batchdata: Any) -> Any:
        if not len(batchdata):
            return []
        batch: Sequence = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        inputs, targets, args, kwargs = batch if len(batch) == 4 else (*batch, (), {})
        if engine.mask_key is not None:
            kwargs = {**kwargs, "mask": batchdata[engine.mask_key].to(engine.state.device)}
        output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        if targets is not None and "rater_weights" in batchdata:
            output["rater_weights"] = check_weights(batchdata["rater_weights"], targets)
            output[Keys.LABEL] = with_weights(targets, output["rater_weights"])
        engine.state.output = output
        with engine.mode(engine.network):
            with torch.autocast(engine.state.device.type, enabled=engine.amp, **engine.amp_kwargs):
                distribution = engine.inferer(inputs, engine.network, *args, **kwargs)
            pred = plain(distribution.mode_logits()).softmax(1)
            generator = torch.Generator(pred.device).manual_seed(engine.noise_seed)
            options = (generator, engine.chunk_size, engine.expected_entropy)
            samples = draw_samples(distribution, engine.num_samples, *options)
            if engine.uncertainty_draws is not None:
                number, of_each = engine.uncertainty_draws
                given = (distribution.given_weights(generator) for _ in range(number))
                means = [draw_samples(d, of_each, generator, engine.chunk_size).probabilities for d in given]
                output["weight_probabilities"] = torch.stack([plain(p) for p in means], dim=1)
        output[Keys.PRED] = _with_meta(pred, inputs)
        output["probabilities"] = _with_meta(plain(samples.probabilities), inputs)
        output["samples"] = with_weights(_with_meta(plain(samples.labels), inputs), samples.weights)
        if samples.weights is not None:
            output["sample_weights"] = samples.weights
        if samples.expected_entropy is not None:
            output["expected_entropy"] = _with_meta(plain(samples.expected_entropy), inputs)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)  # decollates and post-processes the output
        return engine.state.output


def _with_meta(x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """``x`` with the image's affine and applied transforms, so that it can be inverted and saved."""
    if not isinstance(image, MetaTensor):
        return x
    return MetaTensor(x, meta=image.meta, applied_operations=image.applied_operations)
