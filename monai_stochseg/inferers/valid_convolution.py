# SPDX-License-Identifier: Apache-2.0
"""Whole images through networks of unpadded convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer
from monai.utils import (
    PytorchPadMode,
    convert_to_dst_type,
    ensure_tuple,
    ensure_tuple_rep,
    fall_back_tuple,
)

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes, check_option

__all__ = ["ValidConvolutionInferer"]


class ValidConvolutionInferer(Inferer):
    """
    Whole images through a network of unpadded ("valid") convolutions, such as DeepMedic, tile by tile.

    The network takes n + 2 * margin voxels and gives n. The image is padded once, and its output is computed in tiles
    of ``roi_size`` that lie side by side; the last tile of an axis is shifted back to end with the image. All tiles
    start at multiples of ``alignment``, so that the pooling cells of neighbours coincide: in evaluation mode any
    tiling gives the prediction of a single pass, with nothing to blend.

    Args:
        roi_size: size of an output tile, one for all axes or one for each, in voxels; multiples of ``alignment``.
            A tile larger than the image is cut to it; a component of 0 or less is the whole axis.
        margin: voxels that the network loses at each end of an axis.
        alignment: the network's output sizes are multiples of this.
        sw_batch_size: number of tiles that go through the network together.
        padding_mode: {``"constant"``, ``"reflect"``, ``"replicate"``, ``"circular"``}
            What is beyond the border of the image, see :py:func:`torch.nn.functional.pad`.
        cval: the value for ``"constant"``.
        device: where the output is stitched. By default the device of the inputs.

    Raises:
        ValueError: when ``roi_size`` is not a multiple of ``alignment``, ``margin`` is negative, or ``alignment`` or
            ``sw_batch_size`` is less than 1.
    """

    @check_arguments
    def __init__(
        self,
        roi_size: Sequence[int] | int,
        margin: int,
        alignment: int = 1,
        sw_batch_size: int = 1,
        padding_mode: PytorchPadMode | str = PytorchPadMode.CONSTANT,
        cval: float = 0.0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("margin", margin, 0),
            ("alignment", alignment, 1),
            ("sw_batch_size", sw_batch_size, 1),
        ):
            check_at_least(least, **{name: value})
        for n in ensure_tuple(roi_size):
            if n > 0 and n % alignment:
                below = n // alignment * alignment
                nearest = f"{below} or {below + alignment}" if below else alignment
                raise ValueError(
                    f"roi_size must be multiples of the alignment, {alignment}, got {roi_size}: use {nearest} for {n}."
                )
        self.roi_size = roi_size
        self.margin = margin
        self.alignment = alignment
        self.sw_batch_size = sw_batch_size
        self.padding_mode = check_option("padding_mode", padding_mode, PytorchPadMode)
        self.cval = cval
        try:
            self.device = None if device is None else torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device must be one of PyTorch's, got {device!r} ({error}).") from None

    @check_arguments
    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            inputs: images ``[B, C, *S]``.
            network: callable from ``[N, C, *(n + 2 * margin)]`` to ``[N, C_out, *n]``.
            args: further arguments of ``network``.
            kwargs: further keyword arguments of ``network``.

        Returns:
            ``[B, C_out, *S]``, in the wider of the dtypes of the inputs and of the network's output; with the inputs'
            meta data where they are a MetaTensor.

        Raises:
            ValueError: when ``roi_size`` has not one component for each spatial axis, or the size of the network's
                output does not fit ``margin``.
            TypeError: when the network returns anything but a tensor.
        """
        check_axes("[B, C, *S]", 4, inputs=inputs)
        batch_size, _, *size = inputs.shape
        if not isinstance(self.roi_size, int) and len(self.roi_size) != len(size):
            raise ValueError(
                f"roi_size has {len(self.roi_size)} components, {self.roi_size}, "
                f"but inputs of shape {tuple(inputs.shape)} have {len(size)} spatial axes."
            )
        aligned = [-(-n // self.alignment) * self.alignment for n in size]
        roi_size = fall_back_tuple(ensure_tuple_rep(self.roi_size, len(size)), aligned)
        roi_size = tuple(min(n, limit) for n, limit in zip(roi_size, aligned, strict=True))

        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        padding = [(self.margin, self.margin + end - n) for n, end in zip(size, aligned, strict=True)]
        image = F.pad(image, [p for axis in reversed(padding) for p in axis], self.padding_mode, self.cval)

        tiles = [(b, tile) for b in range(batch_size) for tile in dense_patch_slices(aligned, roi_size, roi_size)]
        device = self.device or inputs.device
        output = torch.empty(0)
        for i in range(0, len(tiles), self.sw_batch_size):
            chunk = tiles[i : i + self.sw_batch_size]
            windows = torch.stack([image[b][self._window(tile)] for b, tile in chunk])
            predicted = network(windows, *args, **kwargs)
            self._check(predicted, windows, roi_size)
            if i == 0:
                dtype = torch.promote_types(inputs.dtype, predicted.dtype)
                output = torch.empty((batch_size, predicted.shape[1], *size), dtype=dtype, device=device)
            for (b, tile), values in zip(chunk, predicted, strict=True):
                inside = (slice(n - s.start) for n, s in zip(size, tile, strict=True))
                output[b][(slice(None), *tile)] = values[(slice(None), *inside)].to(device)

        if isinstance(inputs, MetaTensor):
            meta = MetaTensor([]).copy_meta_from(inputs, copy_attr=False)
            output = convert_to_dst_type(output, meta, dtype=output.dtype, device=device)[0]
        return output

    def _window(self, tile: Sequence[slice]) -> tuple[slice, ...]:
        """The channels and voxels of a padded image that the network needs for an output tile."""
        return slice(None), *(slice(s.start, s.stop + 2 * self.margin) for s in tile)

    def _check(self, predicted: object, windows: torch.Tensor, roi_size: tuple[int, ...]) -> None:
        if not isinstance(predicted, torch.Tensor):
            raise TypeError(f"network must return one tensor, got {type(predicted).__name__}.")
        if predicted.shape[0] != windows.shape[0] or predicted.shape[2:] != roi_size:
            raise ValueError(
                f"network returned shape {tuple(predicted.shape)} for windows of shape {tuple(windows.shape)}; with "
                f"margin={self.margin} it must return {windows.shape[0]} items of spatial size {roi_size}. "
                "Give the margin and the alignment of the network."
            )
