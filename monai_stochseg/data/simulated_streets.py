# SPDX-License-Identifier: Apache-2.0
from .simulated.streets import MARK  # noqa: F401  # until bundle is moved
