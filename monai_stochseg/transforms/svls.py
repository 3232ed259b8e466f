# SPDX-License-Identifier: Apache-2.0
"""Spatially varying label smoothing, of one rater and of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from numbers import Integral

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple

from monai_stochseg.distributions.arguments import check_arguments, check_num_classes, check_per_axis

from .rater_labels import RaterTransformd, class_labels, present_raters

# Voxels of the slabs that a volume is cut into, and neighbours that are read at a time: both stay in the cache.
_SLAB_VOXELS = 2**18
_CHUNK_NEIGHBOURS = 2**17


def svls_kernel(
    spatial_dims: int,
    sigma: float = 1.0,
    kernel_size: Sequence[int] | int = 3,
    spacing: Sequence[float] | None = None,
) -> torch.Tensor:
    """
    Make the kernel of Islam and Glocker 2021 (https://arxiv.org/abs/2104.05788): exp(-|x|^2 / 2 sigma^2), whose
    centre is replaced by the sum of its neighbours, divided so that the centre is 1.

    Args:
        spatial_dims: number of axes, 2 or 3.
        sigma: standard deviation, in voxels, or in mm if ``spacing`` is given.
        kernel_size: odd number of voxels, one for all axes or one per axis. A kernel of a single voxel is 1.
        spacing: size of a voxel in mm, one number per axis. None: 1 along all axes.

    Returns:
        a float32 tensor of ``kernel_size``: its centre is 1, and so is the sum of all its neighbours.

    Raises:
        ValueError: when sigma, a kernel size or a spacing is out of range, or their number is not ``spatial_dims``.
    """
    _check_kernel(sigma, kernel_size, spacing)
    sizes = check_per_axis("kernel_size", kernel_size, spatial_dims)
    spacing = check_per_axis("spacing", 1.0 if spacing is None else spacing, spatial_dims)
    squares = [
        ((torch.arange(k) - k // 2) * step).double().square() / (2 * sigma**2)
        for k, step in zip(sizes, spacing, strict=True)
    ]
    exponent = -reduce(torch.add, torch.meshgrid(*squares, indexing="ij")).flatten()
    centre = len(exponent) // 2
    if centre:
        exponent[centre] = -torch.inf
        exponent = exponent.softmax(0)  # does not vanish for a small sigma, as the Gaussian's values do
    exponent[centre] = 1
    return exponent.reshape(sizes).float()


@check_arguments
def spatially_varying_label_smoothing(
    label: torch.Tensor,
    num_classes: int,
    sigma: float = 1.0,
    kernel_size: Sequence[int] | int = 3,
    spacing: Sequence[float] | None = None,
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """
    Smooth labels: the mean over the raters of their one-hot labels, convolved with :py:func:`svls_kernel` under
    replicate padding and divided by the kernel's sum (Islam and Glocker 2021, https://arxiv.org/abs/2104.05788).

    Only voxels that see another class within the kernel are summed, a slab of the volume at a time; the others stay
    exactly one-hot.

    Args:
        label: ``[R, *S]``, integer classes, S of 2 or 3 axes.
        num_classes: number of classes C, the background included.
        sigma: standard deviation of the Gaussian, in voxels, or in mm if ``spacing`` is given.
        kernel_size: odd number of voxels, one for all axes or one per axis; 1 gives the mean of the one-hots.
        spacing: size of a voxel in mm, one number per axis. None: 1 along all axes.
        rater_weights: ``[R]``, at least 0, one of them positive; a rater of weight 0 is missing, and its label is
            ignored. None: the raters weigh the same.

    Returns:
        ``[C, *S]``, float32, summing to 1 over C, on the device of the label.

    Raises:
        ValueError: when a label is not an integer, lies outside the classes or is one-hot already, there is no rater,
            weights or spacing do not fit, the kernel size is even, or sigma not positive.
    """
    label, weights = present_raters(label, rater_weights)
    kernel = svls_kernel(label.ndim - 1, sigma, kernel_size, spacing).to(label.device)
    classes = class_labels(label, num_classes)
    soft = torch.zeros((num_classes, *label.shape[1:]), dtype=torch.float32, device=label.device)
    for rater, weight in zip(classes, weights.tolist(), strict=True):
        _add_smoothed(soft, rater, kernel, weight)
    # Summed in the order of the raters, so that exactly 1 is left where all agree.
    return soft.div_(reduce(torch.add, weights))


def _add_smoothed(soft: torch.Tensor, label: torch.Tensor, kernel: torch.Tensor, weight: float) -> None:
    """Add one rater's label ``[*S]``, smoothed, to ``soft`` ``[C, *S]``: one-hot and the kernel's change."""
    change = kernel.flatten() / kernel.sum()
    change[len(change) // 2] -= 1
    rows = max(1, _SLAB_VOXELS // label[0].numel())
    for start in range(0, len(label), rows):
        slab = label[start : start + rows]
        for c, plane in enumerate(soft[:, start : start + rows]):
            plane.add_(slab == c, alpha=weight)
        padded = _pad(label, start, len(slab), kernel.shape)
        mixed = _window(padded, kernel.shape, torch.maximum) != _window(padded, kernel.shape, torch.minimum)
        boundary = mixed.nonzero()
        voxels = _ravel(boundary, slab.shape) + start * slab[0].numel()
        corners = _ravel(boundary, padded.shape)
        offsets = _ravel(torch.ones_like(kernel).nonzero(), padded.shape)
        chunk = max(1, _CHUNK_NEIGHBOURS // len(offsets))
        for voxel, corner in zip(voxels.split(chunk), corners.split(chunk), strict=True):
            neighbours = padded.flatten().index_select(0, (corner[:, None] + offsets).flatten())
            neighbours = neighbours.reshape(-1, len(offsets)).long()
            total = torch.zeros((len(voxel), len(soft)), dtype=soft.dtype, device=label.device)
            total.scatter_add_(1, neighbours, change.expand_as(neighbours))
            for plane, column in zip(soft.flatten(1), total.T, strict=True):
                plane.index_add_(0, voxel, column, alpha=weight)


def _pad(label: torch.Tensor, start: int, rows: int, sizes: Sequence[int]) -> torch.Tensor:
    """Rows of a label from ``start`` on, with the margin that a kernel needs, replicated beyond the label's border."""
    padded = label
    for axis, k in enumerate(sizes):
        first, count = (start, rows) if axis == 0 else (0, label.shape[axis])
        index = torch.arange(first - k // 2, first + count + k // 2, device=label.device)
        padded = padded.index_select(axis, index.clamp_(0, label.shape[axis] - 1))
    return padded


def _window(
    x: torch.Tensor, sizes: Sequence[int], op: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Reduce each window of a padded label, one axis after the other."""
    for axis, k in enumerate(sizes):
        size = x.shape[axis] - k + 1
        x = reduce(op, [x.narrow(axis, i, size) for i in range(k)])
    return x


def _ravel(index: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Positions ``[n, axes]`` as positions in a flattened tensor of ``shape``, ``[n]``."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return (index * torch.tensor(strides, device=index.device)).sum(1)


class SVLS(Transform):
    """
    Make a label soft by spatially varying label smoothing (Islam and Glocker 2021, https://arxiv.org/abs/2104.05788),
    for a loss that takes probabilities, such as :py:class:`monai_stochseg.losses.SoftDiceCELoss` or PyTorch's cross
    entropy. Put it after all spatial transforms, so that these move all raters in the same way.

    | raters | ``smooth`` | the paper's name |
    | --- | --- | --- |
    | 1 | True | SVLS |
    | 1 | False | one-hot |
    | several | True | mSVLS: mean of each rater's SVLS |
    | several | False | mOH: mean of the one-hots |

    Args:
        num_classes: number of classes C, the background included.
        sigma: standard deviation of the Gaussian, in voxels, or in mm if ``spacing`` is given.
        kernel_size: odd number of voxels, one for all axes or one per axis.
        spacing: size of a voxel in mm, one number per axis; ``"meta"``: that of the label's affine. None: 1 along all
            axes.
        smooth: False leaves the one-hot of each rater as it is, as a kernel of a single voxel does.

    Raises:
        ValueError: when there are fewer than 2 classes, sigma is not positive, a kernel size is not odd, or a spacing
            not positive.
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(
        self,
        num_classes: int,
        sigma: float = 1.0,
        kernel_size: Sequence[int] | int = 3,
        spacing: Sequence[float] | str | None = None,
        smooth: bool = True,
    ) -> None:
        check_num_classes(num_classes=num_classes)
        if isinstance(spacing, str) and spacing != "meta":
            raise ValueError(f"spacing must be numbers, 'meta' or None, got {spacing!r}.")
        _check_kernel(sigma, kernel_size, None if isinstance(spacing, str) else spacing)
        self.num_classes = num_classes
        self.sigma = sigma
        self.kernel_size = kernel_size if smooth else 1
        self.spacing = spacing

    @check_arguments
    def __call__(
        self, label: NdarrayOrTensor, rater_weights: torch.Tensor | Sequence[float] | None = None
    ) -> NdarrayOrTensor:
        """
        Make one label soft.

        Args:
            label: integer classes of R raters, ``[R, *S]``, S of 2 or 3 axes.
            rater_weights: ``[R]``, at least 0, one of them positive; or a mask, 0 where a rater is missing: that label
                is ignored. None: the raters weigh the same.

        Returns:
            ``[C, *S]``, float32, summing to 1 over C; on the label's device, with its metadata and applied operations.

        Raises:
            ValueError: when a label is not an integer, lies outside the classes or is one-hot already, there is no
                rater, the weights or the spacing do not fit, or ``spacing="meta"`` and the label has no affine.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        spacing = self.spacing
        if isinstance(spacing, str):
            if not isinstance(label, MetaTensor):
                raise ValueError(
                    f"spacing='meta' needs a label with an affine, a MetaTensor, got {type(label).__name__}; "
                    "give the spacing in mm."
                )
            # A column is the step, in mm, along an axis of the array, which has three components for a slice as well.
            spacing = label.affine[:-1, : label.ndim - 1].norm(dim=0).tolist()
        soft = spatially_varying_label_smoothing(
            img, self.num_classes, self.sigma, self.kernel_size, spacing, rater_weights
        )
        return convert_to_dst_type(soft, dst=img, dtype=torch.float32)[0]


class SVLSd(RaterTransformd):
    """
    Dictionary-based version of :py:class:`SVLS`.

    Args:
        keys: keys of the labels, ``[R, *S]``; each is replaced by its soft target ``[C, *S]``.
        num_classes: number of classes C, the background included.
        sigma: as in :py:class:`SVLS`.
        kernel_size: as in :py:class:`SVLS`.
        spacing: as in :py:class:`SVLS`.
        smooth: as in :py:class:`SVLS`.
        rater_weights_key: key of the weights of the raters, ``[R]``, or of a mask that is 0 where a rater is missing;
            they are dropped with the raters. Where the data have none, or it is None, the raters weigh the same.
        allow_missing_keys: whether a label may be absent.
    """

    backend = SVLS.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        sigma: float = 1.0,
        kernel_size: Sequence[int] | int = 3,
        spacing: Sequence[float] | str | None = None,
        smooth: bool = True,
        rater_weights_key: str | None = "rater_weights",
        allow_missing_keys: bool = False,
    ) -> None:
        transform = SVLS(num_classes, sigma, kernel_size, spacing, smooth)
        super().__init__(keys, transform, rater_weights_key, allow_missing_keys)


def _check_kernel(sigma: float, kernel_size: Sequence[int] | int, spacing: Sequence[float] | None) -> None:
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive, got {sigma}.")
    if any(not isinstance(k, Integral) or k < 1 or k % 2 == 0 for k in ensure_tuple(kernel_size)):
        raise ValueError(f"kernel_size must be odd, so that a kernel has a centre, got {kernel_size}.")
    if spacing is not None and not all(0 < step < math.inf for step in ensure_tuple(spacing)):
        raise ValueError(f"spacing must be positive, in mm, got {spacing}.")
