# SPDX-License-Identifier: Apache-2.0
"""``--html``: one file with all cases, which opens without a server."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from monai_stochseg.data import CaseError, new_file
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.session import NOTICE
from monai_stochseg.explore.slices import grey_png, heat_png, label_png, planes
from monai_stochseg.explore.summary import describe_case, summarise

__all__ = ["write_report"]

# Those of the page that the report shares, and its own.
_MODULES = ("clusters.js", "dom.js", "histogram.js", "report.js", "samples.js", "state.js", "theme.js")
_MOST_SAMPLES = 100  # that are drawn of a case: each is a picture a plane


def write_report(folder: PredictionFolder, html: str, hide_names: bool = False) -> str:
    """
    Write one HTML file with the views of all cases: planes through what the samples dispute, each sample, reader and
    map, orders, clusters and histograms. It asks for nothing from elsewhere, and opens by a double click.

    Args:
        folder: of the predictions.
        html: the file.
        hide_names: whether cases are numbered.

    Returns:
        The file's path.

    Raises:
        CaseError: when there is no case, or none can be read.
    """
    if not isinstance(html, str) or Path(html).expanduser().is_dir():
        raise CaseError(f"html must be the name of a file, got {html!r}.")
    if message := folder.message():
        raise CaseError(message)
    cases, failed = [], []
    for number, name in enumerate(folder.names()):
        shown = f"case {number + 1}" if hide_names else name
        try:
            cases.append({"id": number, "name": shown, **_case(OpenedCase(folder.files(name)))})
        except Exception as error:  # whatever a damaged file raises: the other cases are shown
            failed.append({"name": shown, "error": f"{shown} cannot be shown." if hide_names else f"{shown}: {error}"})
    if not cases:
        raise CaseError(f"no case can be shown: {failed[0]['error']}")
    content = {"title": "" if hide_names else folder.title, "notice": NOTICE, "cases": cases, "failed": failed}
    path = Path(html).expanduser().absolute()
    try:
        with new_file(path) as temporary:
            temporary.write_text(_page(content), encoding="utf-8")
    except OSError as error:
        raise CaseError(f"html: {error}") from None
    return str(path)


def _case(case: OpenedCase) -> dict[str, Any]:
    described = describe_case(case, summarise(case))
    json.dumps(described, allow_nan=False)  # a NaN would leave the whole page blank
    shown = [layer for layer in case.layers if not layer.startswith("sample-")]
    shown += [f"sample-{index}" for index in range(min(case.record.num_samples, _MOST_SAMPLES))]
    cuts = planes(case, described["focus"])
    drawn: list[dict[str, Any]] = [
        {"name": cut.name, "size": cut.size, "pixels": cut.pixels, "channels": [], "layers": {}} for cut in cuts
    ]
    places = list(zip(cuts, drawn, strict=True))
    if case.record.has_image:
        for index in range(len(case.record.channel_names)):
            values = case.channel(index)
            for plane, pictures in places:
                pictures["channels"].append(grey_png(case, values, plane))
    for layer in shown:
        labels = case.label_map(layer)
        for plane, pictures in places:
            pictures["layers"][layer] = label_png(case, labels, plane, described["colours"])
    for each in case.heat_maps:
        values = case.heat_map(each.id)
        for plane, pictures in places:
            pictures["layers"][each.id] = heat_png(case, values, plane, each.maximum)
    channels = list(case.record.channel_names) if case.record.has_image else []
    return {**described, "channels": channels, "planes": drawn, "edit": None, "drawn_samples": _MOST_SAMPLES}


def _page(content: dict[str, Any]) -> str:
    """The report's skeleton with its style, its modules as an import map, and its content."""
    static = files("monai_stochseg.explore") / "static"
    modules = {f"explore/{name}": _module((static / name).read_text(encoding="utf-8")) for name in _MODULES}
    parts = {
        "/*style*/": "".join((static / name).read_text(encoding="utf-8") for name in ("app.css", "report.css")),
        "{/*modules*/}": _in_script({"imports": modules}),
        "{/*content*/}": _in_script(content),
    }
    page = (static / "report.html").read_text(encoding="utf-8")
    for mark, text in parts.items():
        page = page.replace(mark, text, 1)
    return page


def _module(text: str) -> str:
    """A module as an address; one in an address cannot name another by its place."""
    named = text.replace('from "./', 'from "explore/')
    return "data:text/javascript;base64," + base64.b64encode(named.encode("utf-8")).decode("ascii")


def _in_script(value: Any) -> str:
    """JSON that no script element can be ended by."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
