# SPDX-License-Identifier: Apache-2.0
"""Draws without replacement, over the chunks of one draw."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Deck:
    """
    Indices dealt without replacement: a permutation of all, and when it is used up the next one.

    A draw may come in chunks: what is left of a permutation is dealt next, as long as the generator stands where the
    last chunk left it. A generator at any other place begins a new deck, so that a draw replays from its seed.
    """

    def __init__(self) -> None:
        self._left: torch.Tensor | None = None
        self._state: torch.Tensor | None = None

    def open(self, generator: torch.Generator | None) -> None:
        """Forget what is left, unless the generator stands where :py:meth:`close` saw it."""
        if self._state is None or not torch.equal(self._state, _state(generator)):
            self._left = None

    def deal(self, n: int, shuffle: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """
        The next ``n`` indices.

        Args:
            n: their number.
            shuffle: gives a permutation in each row, ``[B, M]``; it is told how many of the ``n`` stand before it.

        Returns:
            ``[B, n]``.
        """
        cards = shuffle(0) if self._left is None or not self._left.numel() else self._left
        while cards.shape[1] < n:
            cards = torch.cat([cards, shuffle(cards.shape[1])], dim=1)
        self._left = cards[:, n:]
        return cards[:, :n]

    def close(self, generator: torch.Generator | None) -> None:
        """Note where the generator stands."""
        self._state = _state(generator)


def _state(generator: torch.Generator | None) -> torch.Tensor:
    return torch.get_rng_state() if generator is None else generator.get_state()
