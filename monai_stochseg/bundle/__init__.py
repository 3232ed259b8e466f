# SPDX-License-Identifier: Apache-2.0
"""What the configuration files of the bundles call beside MONAI's own components."""

from .errors import explain_errors
from .overrides import check_overrides
from .root import find_bundle
from .runtime import finish, prepare_network, process_rank, select_device, start

__all__ = [
    "check_overrides",
    "explain_errors",
    "find_bundle",
    "finish",
    "prepare_network",
    "process_rank",
    "select_device",
    "start",
]
