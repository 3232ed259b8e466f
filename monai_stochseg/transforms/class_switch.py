# SPDX-License-Identifier: Apache-2.0
"""Ambiguity of a known distribution: classes of an image that at random become others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.networks import one_hot
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep

from monai_stochseg.distributions import check_labels
from monai_stochseg.distributions.arguments import check_arguments, check_num_classes, naming

from .rater_labels import RATER_WEIGHTS, check_label

Switches = Mapping[int, Sequence[float]]


@check_arguments
def class_switch_modes(label: torch.Tensor, switches: Switches, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    All labels that class switches can make of one, with their probabilities (Kohl et al. 2018,
    https://arxiv.org/abs/1806.05034, section 4.2).

    The i-th of n switches was thrown in mode k where bit i of k is 1: mode 0 is the label itself, mode 1 has the first
    switch alone, mode 2^n - 1 all. Where the image lacks a source, modes coincide; all 2^n are kept, so that each
    image has as many.

    Args:
        label: ``[1, *S]``, integer classes.
        switches: source class to (target class, probability), each thrown independently for the whole image.
        num_classes: number of classes C, the targets included.

    Returns:
        the modes, ``[2^n, *S]`` of the label's type, and their probabilities, ``[2^n]`` float32, which sum to 1.

    Raises:
        ValueError: when there is no switch, a source or a target is outside the classes, a source is the target of
            a switch, a probability is outside [0, 1], the label is not ``[1, *S]``, or its type cannot hold a
            target.
    """
    table = _check_switches(switches, num_classes)
    _check_one_rater(label)
    _check_type(label, table)
    label = label.as_subclass(torch.Tensor)
    mode = torch.arange(2 ** len(table), device=label.device)
    modes = label.repeat(len(mode), *[1] * (label.ndim - 1))
    probabilities = torch.ones(len(mode), dtype=torch.float64, device=label.device)
    for bit, (source, (target, probability)) in enumerate(table.items()):
        thrown = (mode >> bit) % 2 == 1
        modes.masked_fill_(thrown.reshape(-1, *[1] * (label.ndim - 1)) & (label == source), target)
        probabilities *= torch.where(thrown, probability, 1 - probability)
    return modes, probabilities.float()


@check_arguments
def class_switch_probabilities(
    label: torch.Tensor, switches: Switches, num_classes: int, ignore_index: int | None = None
) -> torch.Tensor:
    """
    The true distribution of each pixel under class switches (Kohl et al. 2018, https://arxiv.org/abs/1806.05034,
    section 4.2): how probable each class is there. It is the mean of the modes that :py:func:`class_switch_modes`
    lists, and says nothing of which pixels change together.

    Args:
        label: ``[1, *S]``, integer classes, before any switch.
        switches: source class to (target class, probability), each thrown independently for the whole image.
        num_classes: number of classes C, the targets included.
        ignore_index: label of void pixels, in which all classes are equally probable.

    Returns:
        ``[C, *S]`` float32, which sums to 1 over C.

    Raises:
        ValueError: when the switches are wrong, see :py:func:`class_switch_modes`, the label is not ``[1, *S]``, or a
            pixel that is not void is outside the classes.

    Example::

        >>> class_switch_probabilities(torch.tensor([[0, 1]]), {0: (2, 0.25)}, 3)
        tensor([[0.7500, 0.0000],
                [0.0000, 1.0000],
                [0.2500, 0.0000]])
    """
    table = _check_switches(switches, num_classes)
    _check_one_rater(label)
    given, valid = check_labels(label.as_subclass(torch.Tensor)[None], num_classes, ignore_index, "label")
    probabilities: torch.Tensor = one_hot(given, num_classes)[0]
    for source, (target, probability) in table.items():
        probabilities[target] += probability * probabilities[source]
        probabilities[source] *= 1 - probability
    return torch.where(valid[0], probabilities, 1 / num_classes)


class RandClassSwitch(Randomizable, Transform):
    """
    Turn classes of a label into others at random, as in the multimodal Cityscapes task of Kohl et al. 2018
    (https://arxiv.org/abs/1806.05034, section 4.2). Each switch is thrown independently, and for the whole image.

    Args:
        switches: source class to (target class, probability), such as
            :py:data:`monai_stochseg.data.CITYSCAPES_SWITCHES`.
        num_classes: number of classes C, the targets included.

    Raises:
        ValueError: when there is no switch, a source or a target is outside the classes, a source is the target of
            a switch, or a probability is outside [0, 1].
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, switches: Switches, num_classes: int) -> None:
        self.switches = _check_switches(switches, num_classes)
        self.thrown = [False] * len(self.switches)

    def randomize(self, data: Any = None) -> None:
        """Throw each switch."""
        self.thrown = [bool(self.R.random_sample() < probability) for _, probability in self.switches.values()]

    @check_arguments
    def __call__(self, label: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """
        Switch the classes of one label.

        Args:
            label: ``[R, *S]``, integer classes; all raters are switched alike. Other values, such as void, stay.
            randomize: False repeats what was thrown last.

        Returns:
            ``[R, *S]``, of the label's type, with its metadata and applied operations.

        Raises:
            ValueError: when the label's type cannot hold a target.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        check_label(img)
        _check_type(img, self.switches)
        if randomize:
            self.randomize()
        switched = img.as_subclass(torch.Tensor).clone()
        for thrown, (source, (target, _)) in zip(self.thrown, self.switches.items(), strict=True):
            if thrown:
                switched[switched == source] = target
        return convert_to_dst_type(switched, dst=img)[0]


class RandClassSwitchd(Randomizable, MapTransform):
    """
    Dictionary-based version of :py:class:`RandClassSwitch`: all keys are switched alike.

    Args:
        keys: keys of the labels, ``[R, *S]``.
        switches: source class to (target class, probability).
        num_classes: number of classes C, the targets included.
        allow_missing_keys: whether a label may be absent.
    """

    backend = RandClassSwitch.backend

    @check_arguments
    def __init__(
        self, keys: KeysCollection, switches: Switches, num_classes: int, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.class_switch = RandClassSwitch(switches, num_classes)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandClassSwitchd:
        """Set the seed or the state that switches are thrown from."""
        self.class_switch.set_random_state(seed, state)
        return self

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Switch the labels of ``keys``; raises as :py:class:`RandClassSwitch`."""
        d = dict(data)
        first = self.first_key(d)
        for key in self.key_iterator(d):
            with naming(key):
                d[key] = self.class_switch(d[key], randomize=key == first)
        return d


class ClassSwitchModesd(MapTransform):
    """
    Replace labels by all their modes under class switches, for an evaluation against the whole truth, see
    :py:func:`class_switch_modes`.

    Args:
        keys: keys of the labels, ``[1, *S]``; each is replaced by its modes, ``[2^n, *S]``.
        switches: source class to (target class, probability).
        num_classes: number of classes C, the targets included.
        rater_weights_key: key to write the probabilities of the modes, ``[2^n]`` float32, which are those of all keys;
            the losses, metrics and engines of this package find them under the default.
        allow_missing_keys: whether a label may be absent.

    Raises:
        ValueError: as :py:func:`class_switch_modes`.
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        switches: Switches,
        num_classes: int,
        rater_weights_key: str = RATER_WEIGHTS,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.switches = _check_switches(switches, num_classes)
        self.num_classes = num_classes
        self.rater_weights_key = rater_weights_key

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the modes of the labels of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            with naming(key):
                label = convert_to_tensor(d[key], track_meta=get_track_meta())
                modes, d[self.rater_weights_key] = class_switch_modes(label, self.switches, self.num_classes)
            d[key] = convert_to_dst_type(modes, dst=label)[0]
        return d


class ClassSwitchProbabilitiesd(MapTransform):
    """
    Write the true distribution of each pixel beside labels, see :py:func:`class_switch_probabilities`. MONAI's
    ``ConcatItemsd`` makes it channels of the image, which a network then takes as the prediction of a black box that
    knows all but which pixels change together.

    Args:
        keys: keys of the labels, ``[1, *S]``, before any switch.
        switches: source class to (target class, probability).
        num_classes: number of classes C, the targets included.
        names: keys to write the probabilities, ``[C, *S]`` float32, one for each of ``keys``.
        ignore_index: label of void pixels, in which all classes are equally probable.
        allow_missing_keys: whether a label may be absent.

    Raises:
        ValueError: as :py:func:`class_switch_probabilities`, or when there are not as many names as keys.
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        switches: Switches,
        num_classes: int,
        names: KeysCollection,
        ignore_index: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.switches = _check_switches(switches, num_classes)
        self.num_classes = num_classes
        self.names = ensure_tuple_rep(names, len(self.keys))
        self.ignore_index = ignore_index

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the probabilities of the labels of ``keys``."""
        d = dict(data)
        for key, name in self.key_iterator(d, self.names):
            with naming(key):
                label = convert_to_tensor(d[key], track_meta=get_track_meta())
                given = class_switch_probabilities(label, self.switches, self.num_classes, self.ignore_index)
            d[name] = convert_to_dst_type(given, dst=label, dtype=torch.float32)[0]
        return d


def _check_one_rater(label: torch.Tensor) -> None:
    check_label(label)
    if len(label) != 1:
        raise ValueError(f"label must be [1, *S], one rater, got the shape {tuple(label.shape)}.")


def _check_switches(switches: Switches, num_classes: int) -> dict[int, tuple[int, float]]:
    check_num_classes(num_classes=num_classes)
    if not switches:
        raise ValueError("switches is empty: give at least one, {source: (target, probability)}.")
    # the keys of a JSON object are strings
    table = {int(source): (int(target), float(p)) for source, (target, p) in switches.items()}
    targets = {target for target, _ in table.values()}
    for source, (target, probability) in table.items():
        for name, value in (("source", source), ("target", target)):
            if not 0 <= value < num_classes:
                raise ValueError(
                    f"switches: the {name} {value} of {source} -> {target} is outside the {num_classes} classes; "
                    "num_classes counts the targets too."
                )
        if source in targets:
            raise ValueError(
                f"switches: the source {source} is the target of a switch as well, so that the result would depend "
                "on their order; give targets that are no source."
            )
        if not 0 <= probability <= 1:
            raise ValueError(f"switches: the probability of {source} -> {target} must be in [0, 1], got {probability}.")
    return table


def _check_type(label: torch.Tensor, switches: Mapping[int, tuple[int, float]]) -> None:
    highest = max(target for target, _ in switches.values())
    info = torch.finfo if label.is_floating_point() else torch.iinfo
    if (1 if label.dtype == torch.bool else info(label.dtype).max) < highest:
        raise ValueError(f"label of type {label.dtype} cannot hold the class {highest}; take a wider type.")
