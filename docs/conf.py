# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration: `pip install -e ".[docs]" && sphinx-build -W docs docs/_build`."""

import monai_stochseg

project = "monai_stochseg"
author = "The monai_stochseg contributors"
copyright = author
release = monai_stochseg.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 2
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
suppress_warnings = ["ref.python", "docutils"]
html_theme = "alabaster"
