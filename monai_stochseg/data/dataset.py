# SPDX-License-Identifier: Apache-2.0
"""A cached data set whose errors name the case."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from monai.data import CacheDataset
from tqdm import tqdm

from .case import CaseError


class CaseDataset(CacheDataset):
    """
    MONAI's CacheDataset; an error of a case reaches the user as one line.

    A transform's exception reaches the user as ``RuntimeError: applying transform ...``; a :py:class:`CaseError`
    is raised unchanged, so that the last line names the patient, the file and what was found. The arguments are
    those of :py:class:`monai.data.CacheDataset`, whose threads may outlive an error; here they have ended by then.

    Raises:
        CaseError: when ``data`` is empty, or a transform raises one.
    """

    def set_data(self, data: Any) -> None:
        """Set the cases and refill the cache, see :py:class:`monai.data.CacheDataset`."""
        if len(data) == 0:
            raise CaseError("data is empty: there is no case to load.")
        super().set_data(data)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list:
        """
        Load the cases that are kept. MONAI's pool of daemon threads is not joined after an error: a thread that
        comes out of torch's C++ code while Python exits is unwound there, which aborts the process (SIGABRT).
        """
        chosen = list(range(self.cache_num) if indices is None else indices)
        if not chosen:
            return []
        with ThreadPoolExecutor(self.num_workers or os.cpu_count()) as pool:  # waits for its threads, whatever happens
            loaded = pool.map(self._load_cache_item, chosen)  # starts no further case after an error
            return list(tqdm(loaded, total=len(chosen), desc="Loading dataset", disable=not self.progress))

    def _load_cache_item(self, idx: int) -> Any:
        with _case_error_as_itself():
            return super()._load_cache_item(idx)

    def _transform(self, index: int) -> Any:
        with _case_error_as_itself():
            return super()._transform(index)


@contextmanager
def _case_error_as_itself() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, CaseError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
