# SPDX-License-Identifier: Apache-2.0
"""Distances between label maps, of all pairs at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_fields,
    check_num_classes,
    check_option,
)

from .label_maps import check_integers, check_label_maps

__all__ = ["LabelMapDistance", "as_distance", "compute_pairwise_distance"]

# Elements of the largest temporary: 16 MiB in float32, few enough that its sums of zeros and ones stay exact there.
CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class LabelMapDistance:
    """
    Distance between two label maps: one minus their overlap, averaged over the classes.

    With ``|A|`` the voxels of a class in one map and ``|B|`` in the other, the distance of the class is
    ``1 - |A & B| / |A | B|`` (``"iou"``) or ``1 - 2 |A & B| / (|A| + |B|)`` (``"dice"``): 1 where the class is empty in
    one map only. Called, it gives the distances of all pairs of a set. The metrics that compare sets take one of these;
    where they take a number, it is ``num_classes`` and the other options are the defaults.

    Args:
        num_classes: number of classes C, the background (class 0) included.
        include_background: whether class 0 takes part in the mean over the classes.
        overlap: ``"iou"`` (all papers below) or ``"dice"``.
        empty: what a class that is empty in both maps is worth. ``"agree"``: distance 0 (LIDC and BraTS in Kohl et al.
            2018, Monteiro et al. 2020, Kassapis et al. 2021, Gao et al. 2023); ``"ignore"``: the class is left out of
            the mean of this pair (Cityscapes in Kohl et al. 2018, Kassapis et al. 2021, Gao et al. 2023), and a pair
            with no class left has distance NaN. ``"ignore_or_agree"``: the same, but such a pair has distance 0.
            ``"miss"``: distance 1, overlap 0, of an empty map with itself too.
        ignore_index: the label of void voxels. A voxel that is void in any map of a set is left out for the whole set,
            and where no voxel is left all distances are NaN. A void label that is one of the C classes takes no part in
            the mean.
        classes: the classes that take part in the mean, such as those that are ambiguous; None: all, the background
            according to ``include_background``.

    Raises:
        ValueError: when there are fewer than two classes or none takes part in the mean, ``classes`` names one twice or
            one that does not exist or comes with ``include_background``, or an option is unknown.

    Example::

        >>> maps = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]])
        >>> LabelMapDistance(num_classes=2, overlap="dice")({"y": maps})
        tensor([[0.0000, 0.5000],
                [0.5000, 0.0000]])
    """

    num_classes: int
    include_background: bool = False
    overlap: str = "iou"
    empty: str = "agree"
    ignore_index: int | None = None
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_num_classes(num_classes=self.num_classes)
        check_option("overlap", self.overlap, ("iou", "dice"))
        check_option("empty", self.empty, ("agree", "ignore", "ignore_or_agree", "miss"))
        if self.classes is not None:
            if self.include_background:
                raise ValueError("classes names all classes that take part: add 0 to it and drop include_background.")
            if len(set(self.classes)) < len(self.classes) or not set(self.classes) <= set(range(self.num_classes)):
                raise ValueError(
                    f"classes must be different ones of the {self.num_classes} classes 0 to {self.num_classes - 1}, "
                    f"got {list(self.classes)}."
                )
        if not self.compared:
            raise ValueError(
                f"no class takes part in the distance with num_classes={self.num_classes}, classes={self.classes}, "
                f"ignore_index={self.ignore_index}: set include_background=True, other classes or another ignore_index."
            )

    @property
    def compared(self) -> list[int]:
        """The classes that take part in the mean."""
        every = range(0 if self.include_background else 1, self.num_classes)
        return [c for c in (every if self.classes is None else self.classes) if c != self.ignore_index]

    @check_arguments
    def __call__(self, maps: Mapping[str, Iterable[torch.Tensor]]) -> torch.Tensor:
        """
        Compute the distances of all pairs of the label maps of one item.

        Args:
            maps: label maps by the name of the argument that brought them, for the errors, all of one shape ``[*S]``.
                K in all, they are numbered in the order of the mapping.

        Returns:
            ``[K, K]``, symmetric, in PyTorch's default dtype; NaN where all voxels are void.

        Raises:
            ValueError: when a label is no integer, or lies outside the classes and is not ``ignore_index``.
        """
        intersection, voxels = self.intersections(maps)
        size = intersection.diagonal(dim1=1, dim2=2)
        total = size[:, :, None] + size[:, None, :]
        denominator = total if self.overlap == "dice" else total - intersection
        # The counts are exact: integers are subtracted first and divided last. 0 / 1 where both are empty.
        distance = (total - 2 * intersection) / denominator.clamp(min=1)
        if not voxels:
            return torch.full_like(distance[0], torch.nan)
        if self.empty == "miss":
            distance = distance.where(denominator > 0, 1)
        if self.empty in ("agree", "miss"):
            return distance.mean(dim=0)
        left = (denominator > 0).sum(dim=0)
        return distance.sum(dim=0) / (left if self.empty == "ignore" else left.clamp(min=1))

    def intersections(self, maps: Mapping[str, Iterable[torch.Tensor]]) -> tuple[torch.Tensor, int]:
        """
        Count the voxels that each pair of maps has in common, per class.

        A voxel on which all maps agree adds one to every pair; for the others, the counts are the product of the matrix
        ``map == class``, ``[K, V]``, with its transpose, taken in chunks of voxels and exact.

        Args:
            maps: as in ``__call__``.

        Returns:
            int64 ``[len(compared), K, K]``, with the sizes of the class in each map on the diagonal, and the number of
            voxels that are not void.
        """
        rows = [(name, row.reshape(-1)) for name, group in maps.items() for row in group]
        # PyTorch 2.8 cannot index them
        rows = [(name, row.int() if row.dtype == torch.uint16 else row) for name, row in rows]
        if not rows:
            raise ValueError("maps must hold at least one label map, got none.")
        device, voxels = rows[0][1].device, rows[0][1].numel()
        dtype = torch.uint8 if self.num_classes <= 256 else torch.int64
        low = torch.full((voxels,), self.num_classes - 1, dtype=dtype, device=device)
        high = torch.zeros_like(low)
        valid = torch.ones_like(low, dtype=torch.bool)
        for name, row in rows:
            labels, void = self._labels(name, row)
            labels = labels.to(dtype)
            torch.minimum(low, labels, out=low)
            torch.maximum(high, labels, out=high)
            if void is not None:
                valid &= ~void

        agreed = valid & (low == high)
        counts = torch.stack([((low == c) & agreed).count_nonzero() for c in self.compared])
        intersection = counts[:, None, None].repeat(1, len(rows), len(rows))
        disputed = (valid & ~agreed).nonzero().squeeze(1)
        for chunk in disputed.split(max(1, CHUNK_ELEMENTS // len(rows))):
            block = torch.stack([row[chunk].to(dtype) for _, row in rows])
            one_hot = torch.empty(block.shape, dtype=torch.float32, device=device)
            for i, c in enumerate(self.compared):
                torch.eq(block, c, out=one_hot)
                # Autocast would round the counts to half precision.
                with torch.autocast(device.type, enabled=False):
                    intersection[i] += (one_hot @ one_hot.T).long()
        return intersection, int(valid.count_nonzero())

    def _labels(self, name: str, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The labels of one map, checked, 0 where void, and which voxels are void (None: there is no void label)."""
        check_integers(name, row)
        if row.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
            row = row.long()
        void = None
        if self.ignore_index is not None:
            # Compared within the range of its type only: to PyTorch a uint8 of 255 equals -1.
            limits = torch.iinfo(row.dtype)
            representable = limits.min <= self.ignore_index <= limits.max
            void = row == self.ignore_index if representable else torch.zeros_like(row, dtype=torch.bool)
            row = row.masked_fill(void, 0)
        for value in (int(extreme) for extreme in row.aminmax()):
            if not 0 <= value < self.num_classes:
                raise ValueError(
                    f"{name} has label {value}, outside the {self.num_classes} classes 0 to {self.num_classes - 1}: "
                    f"set num_classes, or name a void label as ignore_index (now {self.ignore_index})."
                )
        return row, void


def as_distance(distance: LabelMapDistance | int, overlap: str | None = None) -> LabelMapDistance:
    """
    Resolve what a metric takes as its distance.

    Args:
        distance: a distance, or the number of classes of one with the default options.
        overlap: of a metric that has one of its own; None: that of ``distance``.
    """
    if isinstance(distance, LabelMapDistance):
        resolved = distance
    elif distance < 2:
        raise ValueError(
            f"distance as a number is num_classes, which counts the background and must be at least 2, got {distance}."
        )
    else:
        resolved = LabelMapDistance(distance)
    return resolved if overlap is None else replace(resolved, overlap=overlap)


@check_arguments
def compute_pairwise_distance(
    x: torch.Tensor, y: torch.Tensor | None = None, *, distance: LabelMapDistance | int
) -> torch.Tensor:
    """
    Compute the distance of every label map of one set to every label map of another, per item of the batch.

    Time grows with the voxels on which the maps of an item disagree, memory with one map and not with their number.

    Args:
        x: label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: label maps ``[B, M, *S]``; None: those of ``x``.
        distance: between two label maps, or the number of classes, see :py:class:`LabelMapDistance`.

    Returns:
        ``[B, N, M]``, each in [0, 1] or NaN, in PyTorch's default dtype, on the device of ``x``.

    Raises:
        TypeError: when ``x`` or ``y`` is no tensor.
        ValueError: when the shapes do not match or a label is outside the classes.

    Example::

        >>> x, y = torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]])
        >>> compute_pairwise_distance(x, y, distance=2)
        tensor([[[0.0000, 0.6667]]])
    """
    distance = as_distance(distance)
    if y is None:
        (x,) = check_label_maps(x=x)
        return torch.stack([distance({"x": item}) for item in x])
    x, y = check_label_maps(x=x, y=y)
    n = x.shape[1]
    return torch.stack([distance({"x": x_item, "y": y_item})[:n, n:] for x_item, y_item in zip(x, y, strict=True)])
