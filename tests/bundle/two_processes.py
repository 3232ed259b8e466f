# SPDX-License-Identifier: Apache-2.0
"""
Run by torchrun: workflows of the bundles one after the other, given as a JSON file of ``[files, options]``, with the
files of ``config_files``. Of an evaluation the first process leaves the metrics in ``metrics_<part>.json``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from bundle_runs import make_workflow
from matplotlib.figure import Figure
from monai.bundle import ConfigWorkflow

from monai_stochseg.handlers import sample_figure


def keep_metrics(workflow: ConfigWorkflow, options: dict[str, Any]) -> None:
    metrics = workflow.parser.get_parsed_content("validate#evaluator").state.metrics
    values = {name: value if isinstance(value, float) else value.tolist() for name, value in metrics.items()}
    Path(options["output_dir"], f"metrics_{options['part']}.json").write_text(json.dumps(values))


if __name__ == "__main__":
    sample_figure.plot_samples = lambda *args, **kwargs: Figure()  # most of a tiny run's time
    for files, options in json.loads(Path(sys.argv[1]).read_text()):
        workflow = make_workflow(files=files, **options)
        workflow.run()
        if "part" in options and os.environ.get("RANK") == "0":
            keep_metrics(workflow, options)
    workflow.finalize()  # once: a second process group would wait for the store of the first
