# SPDX-License-Identifier: Apache-2.0
"""
``python bundles``: write what follows from each bundle's ``train.json``, so that it is kept by hand in one place.

For each bundle: ``inference.json``, which stands alone, with the ids that the network and the task are made of;
``logging.conf``, a copy of the one beside this file, where MONAI looks for it; and in ``metadata.json`` the versions
that are common to all, which MONAI's check of a workflow asks each bundle for. ``python bundles --check`` writes
nothing and fails when a file is not what it would write.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import monai_stochseg

ROOT = Path(__file__).resolve().parent
VERSIONS = ("version", "monai_version", "pytorch_version", "numpy_version")


def _module(path: Path) -> ModuleType:
    """A file of the package by itself: its package would import MONAI, which takes seconds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIG = _module(Path(monai_stochseg.__file__).with_name("bundle") / "inference_config.py")


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def contents() -> dict[Path, str]:
    """What each written file holds."""
    files = {}
    common = _read(ROOT / "metadata.json")
    versions = {key: common[key] for key in VERSIONS}
    for path in sorted(ROOT.glob("*/train.json")):
        train = _read(path)
        files[path.with_name("inference.json")] = CONFIG.dumps(CONFIG.inference(train), width=240)
        metadata = path.with_name("metadata.json")
        files[metadata] = json.dumps(versions | _read(metadata) | versions, indent=4, ensure_ascii=False) + "\n"
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
