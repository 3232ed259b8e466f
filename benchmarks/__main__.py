# SPDX-License-Identifier: Apache-2.0
"""All benchmarks, one after the other: `python benchmarks`."""

from __future__ import annotations

import energy_distance
import label_smoothing
import optimal_transport
import ssn_loss
import volume_sampling


def main() -> None:
    for benchmark in (ssn_loss, energy_distance, volume_sampling, label_smoothing, optimal_transport):
        print(f"\n## {benchmark.__doc__}\n", flush=True)
        benchmark.main()


if __name__ == "__main__":
    main()
