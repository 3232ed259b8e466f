# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from monai.transforms import Compose, Lambdad

from monai_stochseg.bundle.checks import check_raters
from monai_stochseg.data import CaseError
from monai_stochseg.tasks import Task
from monai_stochseg.tasks.answer_metrics import drop_empty_raters
from monai_stochseg.transforms import LabelSmoothingd, RandRaterd, SVLSd

_OF_SEVERAL = ("all", "moh", "msvls")


def label_target(
    task: Task,
    target: str,
    alpha: float = 0.1,
    sigma: float = 1.0,
    kernel_size: int = 3,
    spacing: Any = None,
    raters: int | Sequence[int] | None = None,
) -> Compose:
    """
    The transform that makes the raters' ``label`` ``[R, *S]`` the soft target ``[C, *S]`` of a training (Islam and
    Glocker 2021, https://arxiv.org/abs/2104.05788).

    Args:
        task: what is asked; it says how many classes there are, and whether a rater who drew nothing is missing.
        target: of one rater ``onehot``, ``ls`` (label smoothing) or ``svls``; of several ``one`` (the first rater's
            one-hot), ``all`` (that of a rater drawn anew each time), ``moh`` (the mean of the one-hots) or ``msvls``.
        alpha: of label smoothing.
        sigma: of SVLS.
        kernel_size: of SVLS.
        spacing: of SVLS, see :py:class:`monai_stochseg.transforms.SVLS`.
        raters: index of the one rater who teaches, or of several, such as a pair. Default: all.

    Raises:
        ValueError: for another target, a target of several raters where the task has one, or when there is no such
            rater; in a call, when the raters chosen are missing from the case.
    """
    chosen = _indices(task, raters)
    num_classes = task.num_classes
    one_hot = SVLSd("label", num_classes, smooth=False)
    svls = SVLSd("label", num_classes, sigma, kernel_size, spacing)
    targets: Mapping[str, list[Callable]] = {
        "onehot": [one_hot],
        "ls": [LabelSmoothingd("label", num_classes, alpha)],
        "svls": [svls],
        "one": [_first_rater, one_hot],
        "all": [RandRaterd("label"), one_hot],
        "moh": [one_hot],
        "msvls": [svls],
    }
    if target not in targets:
        raise ValueError(f"target must be one of {', '.join(targets)}, got {target!r}.")
    if target in _OF_SEVERAL:
        check_raters(task, f"target {target!r}")
    taught: list[Callable] = [] if chosen is None else [partial(_chosen_raters, chosen=chosen)]
    present = [Lambdad("label", drop_empty_raters)] if task.nonempty_raters else []
    return Compose([*taught, *present, *targets[target]])


def rater_cases(task: Task, part: str, raters: int | Sequence[int] | None = None) -> list[dict[str, Any]]:
    """
    The cases that chosen raters can teach: where a rater who drew nothing is missing, those that one of them drew.

    Args:
        task: what is asked.
        part: see :py:meth:`monai_stochseg.tasks.Task.cases`.
        raters: see :py:func:`label_target`.

    Raises:
        CaseError: when no case is left.
        ValueError: when there is no such rater.
    """
    chosen, cases = _indices(task, raters), task.cases(part)
    if chosen is None or not task.nonempty_raters:
        return cases
    # a task that does not say who drew keeps all
    kept = [case for case in cases if "drawn" not in case or any(case["drawn"][rater] for rater in chosen)]
    if not kept:
        raise CaseError(f"rater {raters} drew nothing in any of the {len(cases)} cases of part {part!r}.")
    return kept


def _indices(task: Task, raters: int | Sequence[int] | None) -> list[int] | None:
    if raters is None:
        return None
    chosen = [raters] if isinstance(raters, int) else list(raters)
    known = range(task.num_raters)
    if not chosen or len(set(chosen)) < len(chosen) or any(rater not in known for rater in chosen):
        raise ValueError(
            f"rater must be one of the raters 0 to {task.num_raters - 1} of task {task.name}, or several, each once, "
            f"got {raters}."
        )
    return chosen


def _chosen_raters(data: Mapping[Hashable, Any], chosen: list[int]) -> dict[Hashable, Any]:
    """The case with these raters alone."""
    d = dict(data)
    d["label"] = d["label"][chosen]
    weights = d.get("rater_weights")
    if weights is not None:
        d["rater_weights"] = weights[chosen]
        if not bool((d["rater_weights"] > 0).any()):
            raise ValueError(f"rater {chosen} is missing from this case, whose rater_weights are {weights.tolist()}.")
    return d


def _first_rater(data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """The ``label`` of the first rater who is there."""
    d = dict(data)
    weights = d.pop("rater_weights", None)
    first = 0 if weights is None else int(weights.gt(0).int().argmax())
    d["label"] = d["label"][first : first + 1]
    return d
