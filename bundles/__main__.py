# SPDX-License-Identifier: Apache-2.0
"""
``python bundles``: write what follows from each bundle's ``train.json``, so that it is kept by hand in one place.

For each bundle: ``inference.json``, which stands alone, with the ids that the network and the task are made of; and
``logging.conf``, a copy of the one beside this file, where MONAI looks for it. ``python bundles --check`` writes
nothing and fails when a file is not what it would write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from monai_stochseg.bundle.inference_config import dumps, inference

ROOT = Path(__file__).resolve().parent


def contents() -> dict[Path, str]:
    """What each written file holds."""
    files = {}
    for path in sorted(ROOT.glob("*/train.json")):
        train = json.loads(path.read_text(encoding="utf-8"))
        files[path.with_name("inference.json")] = dumps(inference(train), width=240)
        files[path.with_name("logging.conf")] = (ROOT / "logging.conf").read_text(encoding="utf-8")
    return files


def main(check: bool = False) -> None:
    """
    Write the files, or compare them.

    Args:
        check: compare, and fail when a file differs.
    """
    different = [p for p, text in contents().items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    if check and different:
        sys.exit(f"run python bundles: {', '.join(str(p.relative_to(ROOT)) for p in different)} would change.")
    for path in different:
        path.write_text(contents()[path], encoding="utf-8")


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
