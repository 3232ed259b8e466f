# SPDX-License-Identifier: Apache-2.0
"""What setup.cfg cannot say: a wheel holds the bundles too, which lie beside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
BUNDLES = ("*.json", "*.conf", "*/*.json", "*/*.conf", "*/*.md")  # and nothing that a training left there


class BuildWithBundles(build_py):
    """Copy the bundles into the package, where `monai_stochseg.bundle.copies` looks for them."""

    def run(self) -> None:
        """Build the package, then add the bundles; an editable install finds them where they are."""
        super().run()
        if self.editable_mode:
            return
        for pattern in BUNDLES:
            for file in sorted((HERE / "bundles").glob(pattern)):
                target = Path(self.build_lib, "monai_stochseg", "_bundles", file.relative_to(HERE / "bundles"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        shutil.copy(HERE / "LICENSE", Path(self.build_lib, "monai_stochseg", "_bundles"))


setup(cmdclass={"build_py": BuildWithBundles})
