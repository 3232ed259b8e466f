# SPDX-License-Identifier: Apache-2.0
"""
Sphinx configuration: ``pip install -e ".[docs]" && sphinx-build -W -c docs . docs/_build/html``.

The sources are the repository itself, so that the READMEs of the bundles and the tutorials are pages as they lie, and
a link means the same in the repository and on the site.
"""

from pathlib import Path

from sphinx.application import Sphinx

import monai_stochseg

project = "monai_stochseg"
author = "The monai_stochseg contributors"
copyright = author
release = version = monai_stochseg.__version__
root_doc = "docs/index"
include_patterns = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "bundles/*/README.md",
    "docs/*.md",
    "docs/_api/*.rst",
    "tutorials/*.ipynb",
]
exclude_patterns = ["docs/_build"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # a tutorial is shown with the outputs that it is stored with
nb_merge_streams = True
templates_path = [str(Path(__file__).parent / "_templates")]  # autosummary looks below the sources
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
suppress_warnings = ["ref.python", "docutils"]

html_theme = "furo"
html_title = f"monai_stochseg {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


def _open_the_first_page(app: Sphinx, error: Exception | None) -> None:
    """Make ``index.html`` of the built site lead to the first page, which is not in its top folder."""
    if error is None and app.builder.name == "html":
        refresh = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        Path(app.outdir, "index.html").write_text(refresh, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("build-finished", _open_the_first_page)
