# SPDX-License-Identifier: Apache-2.0
"""The server of the page: Starlette routes, each an answer of the session."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from functools import wraps
from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from monai_stochseg.data import CaseError
from monai_stochseg.explore.guard import SameOrigin
from monai_stochseg.explore.served import colour_image, export_file, served_nifti, served_voxels
from monai_stochseg.explore.session import Session

__all__ = ["make_app"]

_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".txt": "text/plain"}
_BINARY = "application/octet-stream"
_RAW_LEVEL = 1  # of gzip: label maps are long runs of one value

_logger = logging.getLogger(__name__)


def make_app(session: Session, hosts: Collection[str]) -> Starlette:
    """
    The application.

    Args:
        session: what is shown.
        hosts: names with port under which the server is asked.
    """
    static = _static_files()

    def name_of(request: Request) -> str:
        number = _number(request)
        return f"case {number + 1}" if "hidden" in request.query_params else session.shown_name(number)

    def page(request: Request) -> Response:
        return _static_file(static, "index.html")

    def asset(request: Request) -> Response:
        return _static_file(static, request.path_params["name"])

    def cases(request: Request) -> Response:
        return JSONResponse(session.cases())

    def case(request: Request) -> Response:
        return JSONResponse(session.describe(_number(request)))

    def image(request: Request) -> Response:
        place = _integer(request.path_params["place"])
        opened = session.opened(_number(request))
        if place == 3 and len(opened.record.channel_names) == 3:  # behind red, green and blue
            return Response(colour_image(opened), media_type=_BINARY)
        return Response(served_nifti(*session.channel(_number(request), place)), media_type=_BINARY)

    def map_nifti(request: Request) -> Response:
        values = session.values(_number(request), request.path_params["layer"])
        return Response(served_nifti(*values), media_type=_BINARY)

    def map_raw(request: Request) -> Response:
        labels = session.label_map(_number(request), request.path_params["layer"])
        return Response(served_voxels(*labels), media_type=_BINARY)

    def export(request: Request) -> Response:
        layer = request.path_params["layer"]
        opened, values = session.values(_number(request), layer)
        return _attachment(*export_file(opened, values, opened.maximum(layer)), f"{name_of(request)}_{_counted(layer)}")

    def edit_raw(request: Request) -> Response:
        opened, labels, volumes = session.edit(_number(request), _settings(request))
        headers = {"X-Volumes": json.dumps(volumes)}
        return Response(served_voxels(opened, labels), media_type=_BINARY, headers=headers)

    def edit_file(request: Request) -> Response:
        opened, labels, _ = session.edit(_number(request), _settings(request))
        return _attachment(*export_file(opened, labels), f"{name_of(request)}_edit")

    one = "/api/cases/{id:str}"
    routes = {
        "/": page,
        "/static/{name:str}": asset,
        "/api/cases": cases,
        one: case,
        f"{one}/image/{{place:str}}.nii": image,
        f"{one}/map/{{layer:str}}.nii": map_nifti,
        f"{one}/map/{{layer:str}}.raw": map_raw,
        f"{one}/export/{{layer:str}}": export,
        f"{one}/edit.raw": edit_raw,
        f"{one}/edit.file": edit_file,
    }
    return Starlette(
        routes=[Route(path, _answer(session, function)) for path, function in routes.items()],
        middleware=[
            Middleware(SameOrigin, hosts=hosts),
            Middleware(GZipMiddleware, minimum_size=4096, compresslevel=_RAW_LEVEL),
        ],
        exception_handlers={404: lambda request, error: JSONResponse({"error": "There is no such page."}, 404)},
    )


def _answer(session: Session, function: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Errors become one line in JSON, and the server goes on."""

    @wraps(function)
    def call(request: Request) -> Response:
        try:
            return function(request)
        except CaseError as error:
            return JSONResponse({"error": session.shown_text(str(error))}, 404)
        except Exception as error:  # whatever a network or a damaged file raises: the server must go on
            _logger.exception("the request %s failed", request.url.path)
            return JSONResponse({"error": session.shown_text(f"{type(error).__name__}: {error}")}, 500)

    return call


def _number(request: Request) -> int:
    return _integer(request.path_params["id"])


def _integer(text: str) -> int:
    """-1 where it is none: Starlette's own integers fail on thousands of digits."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else -1


def _counted(layer: str) -> str:
    """The name of a layer as the page counts, from 1: ``sample-0`` is ``sample_1``."""
    kind, dash, index = layer.partition("-")
    return f"{kind}_{int(index) + 1}" if dash else kind


def _settings(request: Request) -> str:
    return request.query_params.get("settings", "")


def _static_files() -> dict[str, bytes]:
    """The page's files by name: what is not among them is not served, whatever path is asked for."""
    folder = files("monai_stochseg.explore") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def _static_file(static: dict[str, bytes], name: str) -> Response:
    if name not in static:
        raise CaseError(f"There is no file {name!r:.60}.")
    ending = name[name.rindex(".") :]
    return Response(static[name], media_type=_TYPES.get(ending, _BINARY))


def _attachment(content: bytes, ending: str, name: str) -> Response:
    """A file to keep; of its name only what every system takes."""
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)
    headers = {"Content-Disposition": f'attachment; filename="{safe}.{ending}"'}
    return Response(content, media_type=_BINARY, headers=headers)
