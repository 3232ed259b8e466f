# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from monai.inferers import Inferer
from monai.transforms import Compose

from monai_stochseg.data import SPLITS, CaseDataset, CaseError
from monai_stochseg.handlers import MetricFigure
from monai_stochseg.metrics import LabelMapDistance, fit_ambiguity_threshold
from monai_stochseg.tasks.ambiguity import AMBIGUITY_FITTED, ambiguity_file, threshold_rows
from monai_stochseg.tasks.answer_metrics import answer_metrics
from monai_stochseg.tasks.description import DataDescription
from monai_stochseg.tasks.sample_metrics import TaskMetric, sample_metric
from monai_stochseg.visualize import plot_ambiguity, plot_case_dice, plot_reliability

PARTS = (*SPLITS, "all")


class Task(ABC):
    """
    What is asked and how the answer is judged: cases, transforms, classes, metrics and figures of one data set.

    A task knows no network; a method, which is a network with its loss and optimiser, knows no data set. Whatever is
    a property of the data is an attribute here, so that a configuration builds a network for any task.

    Args:
        dataset_dir: the folder of the data set.
        spatial_dims: 2 or 3.
        channel_names: names of the image's channels, in their order.
        class_names: names of the classes, the background first.
        regions: structures that are judged: classes by the structure's name. Default: each class but the background.
    """

    #: What the data are, for the metadata of a bundle.
    described: DataDescription = DataDescription()
    #: Names of the metrics of sampled answers in training; the first is the key metric, and smaller is better.
    metric_names: tuple[str, ...] = ("ged", "diversity", "hm_iou", "dice")
    #: Names of the metrics of sampled answers in an evaluation.
    evaluation_metric_names: tuple[str, ...] = metric_names
    #: Label of void voxels; None: there are none.
    ignore_index: int | None = None
    #: Key of a region in the batch, outside which every answer is background; None: there is none.
    mask_key: str | None = None
    #: Number of raters of a case, or of modes of a known truth.
    num_raters: int = 1
    #: Whether a rater who drew nothing is missing, and does not say background, to the metrics of single answers.
    nonempty_raters: bool = False
    #: Cases at a time in an evaluation.
    evaluation_batch_size: int = 1
    #: Whether the split is drawn, and belongs to a run, and does not come with the data.
    draws_split: bool = False

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        spatial_dims: int,
        channel_names: Sequence[str],
        class_names: Sequence[str],
        regions: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.dataset_dir = os.fspath(dataset_dir)
        self.spatial_dims = spatial_dims
        self.channel_names = tuple(channel_names)
        self.class_names = tuple(class_names)
        foreground = {name: (index,) for index, name in enumerate(self.class_names) if index}
        self.regions = {name: tuple(classes) for name, classes in (regions or foreground).items()}
        self._listed: dict[bool, list[dict[str, Any]]] = {}

    @property
    def name(self) -> str:
        """The name of the task."""
        return type(self).__name__

    @property
    def in_channels(self) -> int:
        """Number of channels of the image."""
        return len(self.channel_names)

    @property
    def num_classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.class_names)

    @property
    @abstractmethod
    def simulated(self) -> bool:
        """Whether the images are simulated."""

    @property
    def signature(self) -> dict[str, Any]:
        """What a network was trained for, to be compared where its weights are loaded."""
        return {
            "task": self.name,
            "spatial_dims": self.spatial_dims,
            "channel_names": list(self.channel_names),
            "class_names": list(self.class_names),
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """What is logged of a run's data."""
        return {"task": self.name, "dataset_dir": self.dataset_dir, "simulated": self.simulated}

    @property
    def distance(self) -> LabelMapDistance:
        """The distance between two label maps that the metrics of sets stand on."""
        return LabelMapDistance(self.num_classes, ignore_index=self.ignore_index)

    @abstractmethod
    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """All cases of the folder; a label may be absent where it is not required."""

    @abstractmethod
    def split(self, datalist: Sequence[Mapping[str, Any]]) -> dict[str, list]:
        """The cases of ``train``, ``validation`` and ``test``."""

    def cases(self, part: str, require_label: bool = True) -> list[dict[str, Any]]:
        """
        The cases of one part.

        Args:
            part: ``train``, ``validation`` or ``test``; ``all`` for every case of the folder, split or not, such as an
                external validation.
            require_label: whether each case must have a label.

        Raises:
            CaseError: when the part is unknown or empty, or the folder cannot be used.
        """
        if part not in PARTS:
            raise CaseError(f"part must be one of {PARTS}, got {part!r}.")
        if require_label not in self._listed:  # a listing reads the headers of all files
            self._listed[require_label] = self.datalist(require_label)
        datalist = list(self._listed[require_label])
        if part == "all":
            return datalist
        cases = self.split(datalist)[part]
        if not cases:
            raise CaseError(
                f"part {part!r} is empty: the split leaves it none of the cases in {self.dataset_dir}; name another "
                "part, or split otherwise."
            )
        return cases

    @abstractmethod
    def load(self, with_label: bool = True) -> list[Callable]:
        """The transforms without chance, from a case to ``image`` and ``label``, see :py:meth:`evaluation`."""

    def source(self, with_label: bool = True) -> list[Callable]:
        """
        The transforms that read a case as it is: ``image`` and, where asked, ``label`` on the grid on which predictions
        are saved, with the file's intensities where they are known.

        Default: :py:meth:`load`, of a task whose transforms leave the grid alone.
        """
        return self.load(with_label)

    @staticmethod
    def case_name(case: Mapping[str, Any]) -> str:
        """The name by which the files of a case's prediction are called."""
        return str(case["patient"])

    @staticmethod
    def has_label(case: Mapping[str, Any]) -> bool:
        """Whether a case of :py:meth:`cases` has a label."""
        return bool(case.get("label"))

    def image_case(self, files: Sequence[str]) -> dict[str, Any]:
        """
        The case, without a label, of an image that is no part of the data set.

        Args:
            files: of the image: one for all channels, or one a channel in their order.

        Raises:
            CaseError: when the task reads no image by its file, or takes another number of files.
        """
        raise CaseError(f"image: task {self.name} reads no image by its file; give the folder of a data set.")

    @abstractmethod
    def augmentation(self) -> list[Callable]:
        """The default random transforms of ``image`` and ``label``."""

    def training(
        self,
        augmentation: Sequence[Callable] | None = None,
        target: Callable | Sequence[Callable] = (),
        whole: Sequence[Callable] = (),
    ) -> Compose:
        """
        The transforms of a training.

        Args:
            augmentation: random transforms of ``image`` and ``label``. Default: :py:meth:`augmentation`.
            target: what a method makes of the raters' ``label`` at the end, such as a soft target.
            whole: random transforms that come before ``augmentation`` and before patches are taken, of ``image``,
                ``label`` and :py:attr:`mask_key`.
        """
        chosen = self.augmentation() if augmentation is None else augmentation
        return Compose([*self.load(), *whole, *chosen, *([target] if callable(target) else target)])

    def evaluation(self, transforms: Sequence[Callable] = (), with_label: bool = True) -> Compose:
        """
        The transforms of an evaluation: ``image`` ``[C_in, *S]``, ``label`` ``[R, *S]`` and, where raters or modes do
        not weigh the same, ``rater_weights`` ``[R]``.

        Args:
            transforms: further ones of ``image`` and ``label``, such as a crop.
            with_label: whether to load the label, which must then be there.
        """
        return Compose([*self.load(with_label), *transforms])

    def dataset(
        self, part: str, transform: Callable, num_workers: int = 0, cache_rate: float = 1.0, require_label: bool = True
    ) -> CaseDataset:
        """
        The cases of one part with a transform; those before the first random one run once.

        Args:
            part: see :py:meth:`cases`.
            transform: see :py:meth:`training` and :py:meth:`evaluation`.
            num_workers: processes that fill the cache.
            cache_rate: share of the cases kept in memory.
            require_label: see :py:meth:`cases`.
        """
        cases = self.cases(part, require_label)
        return CaseDataset(cases, transform, num_workers=num_workers, cache_rate=cache_rate, progress=False)

    def metric(self, name: str) -> TaskMetric:
        """
        A metric of sampled answers.

        Args:
            name: see :py:func:`monai_stochseg.tasks.sample_metrics.sample_metric`.
        """
        return sample_metric(name, self.distance)

    def answer_metrics(self, full: bool = False) -> dict[str, TaskMetric]:
        """
        The metrics of single answers by name, the first being the key metric: larger is better.

        Args:
            full: whether to compute those of an evaluation too: surface Dice, each rater's Dice, each class's
                calibration.
        """
        return answer_metrics(self, full)

    def inferer(self, overlap: float = 0.25) -> Inferer | None:
        """
        How windows are taken of an image and stitched; None: the network sees it whole.

        Args:
            overlap: share of a window along each axis that the next one has too.
        """
        return None

    def with_truth(self, num_draws: int) -> Task | None:
        """
        The same task with draws from the truth that its data were simulated with, as further raters behind a case's
        own; None where there is no such truth beyond the raters.

        Args:
            num_draws: of each case.
        """
        return None

    @property
    def figure(self) -> dict[str, Any]:
        """Options of :py:class:`monai_stochseg.handlers.SampleFigure`."""
        return {}

    def evaluation_figures(
        self, metrics: Mapping[str, TaskMetric], output_dir: str, part: str, model_name: str
    ) -> list[MetricFigure]:
        """
        Handlers that draw the task's own figures of an evaluation: with ``case_dice`` among the metrics the samples of
        each case beside its single answer, ``case_dice_<part>.png``; with ``ece_foreground`` the reliability diagram of
        the foreground's probability, ``reliability_foreground_<part>.png``; with ``empty_correlation`` the histograms
        of the share of empty samples, ``ambiguity_<part>.png``, on the validation part with the threshold that fits
        best, ``ambiguity_validation.csv``.
        """
        draw: dict[str, Callable] = {}
        if "case_dice" in metrics:
            case_dice: Any = metrics["case_dice"].metric
            draw["case_dice"] = lambda: plot_case_dice(case_dice.rows())
        if "ece_foreground" in metrics:
            foreground: Any = metrics["ece_foreground"].metric
            draw["reliability_foreground"] = lambda: plot_reliability(
                {model_name: foreground.bins()}, "probability of the foreground"
            )
        figures = [MetricFigure(os.path.join(output_dir, f"{name}_{part}.png"), draw[name]) for name in draw]
        if "empty_correlation" in metrics:
            empty: Any = metrics["empty_correlation"].metric
            fitted: Any = metrics[AMBIGUITY_FITTED].metric if AMBIGUITY_FITTED in metrics else None
            threshold = None if fitted is None else fitted.threshold
            figures.append(
                MetricFigure(
                    ambiguity_file(output_dir, part),
                    lambda: _plot_ambiguity(empty.fractions(), part, threshold),
                    (lambda: threshold_rows(empty.fractions())) if part == "validation" else None,
                )
            )
        return figures


def _plot_ambiguity(fractions: torch.Tensor, part: str, threshold: float | None) -> Figure:
    """On the validation part with the threshold that is fitted there."""
    if part == "validation":
        threshold, accuracy = fit_ambiguity_threshold(fractions)
        return plot_ambiguity(
            fractions, threshold, f"threshold {threshold:.2g}, right for {accuracy:.1%} of the images"
        )
    return plot_ambiguity(fractions, threshold)
