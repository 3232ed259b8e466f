# SPDX-License-Identifier: Apache-2.0
"""Run by torchrun: workflows of the bundles one after the other, given as a JSON file of ``[bundle, options]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bundle_runs import make_workflow

for bundle, options in json.loads(Path(sys.argv[1]).read_text()):
    workflow = make_workflow(bundle, **options)
    workflow.run()
workflow.finalize()  # once: a second process group would wait for the store of the first
