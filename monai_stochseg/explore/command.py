# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from monai.utils import optional_import

from monai_stochseg.data import CaseError
from monai_stochseg.explore.live import LiveFolder
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.report import write_report

__all__ = ["explore"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def explore(
    prediction_dir: str | None = None,
    config_file: str | Sequence[str] | None = None,
    checkpoint: str | None = None,
    image: str | Sequence[str] | None = None,
    ids: Mapping[str, Any] | None = None,
    html: str | None = None,
    hide_names: bool = False,
    host: str = "127.0.0.1",
    port: int = 8765,
) -> str | None:
    """
    Show the samples of each case in the browser: flip through them, see what they agree on and how large structures
    are, and change them.

    The page is served on this computer alone, until Ctrl-C. With a configuration, cases are predicted when they are
    opened, and a network's samples can be changed: temperature, classes and ranks of a Stochastic Segmentation Network,
    the latent plane, experts, codes.

    Args:
        prediction_dir: folder that an inference wrote. With config_file: where predictions are kept; default: a
            temporary folder.
        config_file: inference.json of a bundle, or its train.json with overlays, to predict live. It is Python that
            runs: take it from a source that you trust.
        checkpoint: the weights; default: the configuration's.
        image: file of an image, or a list of files one a channel, to predict it alone; default: the configuration's
            cases.
        ids: further ids of the configuration, such as "{'dataset_dir': '/data'}".
        html: write one file with all cases, which opens without a server, and end.
        hide_names: whether no name of a case leaves the server, or stands in the file.
        host: address to serve on; others than this computer reach it where it is not 127.0.0.1.
        port: to serve on.

    Returns:
        The path of the report, where html is given.

    Raises:
        CaseError: when there is nothing to show, or the address cannot be served.
        ImportError: when starlette or uvicorn is missing.
    """
    if prediction_dir is None and config_file is None:
        raise CaseError("give prediction_dir, the folder of an inference, or config_file, to predict live.")
    if config_file is None and (checkpoint, image, ids) != (None, None, None):
        raise CaseError("checkpoint, image and ids are those of a configuration: give config_file with them.")
    with ExitStack() as stack:
        if config_file is None:
            folder = PredictionFolder(str(prediction_dir))
        else:
            kept = prediction_dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="explore."))
            folder = LiveFolder(kept, config_file, checkpoint, image, ids)
        if html is not None:
            return write_report(folder, html, hide_names)
        _serve(folder, hide_names, host, port)
    return None


def _serve(folder: PredictionFolder, hide_names: bool, host: str, port: int) -> None:
    uvicorn, has_uvicorn = optional_import("uvicorn")
    _, has_starlette = optional_import("starlette")
    if not has_uvicorn or not has_starlette:
        raise ImportError("explore needs starlette and uvicorn: pip install 'monai_stochseg[explore]'.")
    from monai_stochseg.explore.server import make_app
    from monai_stochseg.explore.session import Session

    if host in ("", "0.0.0.0", "::"):
        raise CaseError(f"host must be the address under which others reach this computer, got {host!r}.")
    with _listen(host, port) as listening:
        port = listening.getsockname()[1]
        names = dict.fromkeys((host, *_LOOPBACK) if host in _LOOPBACK else (host, socket.gethostname(), *_LOOPBACK))
        bare = [f"[{name}]" if ":" in name else name for name in names]
        hosts = [f"{name}:{port}" for name in bare] + (bare if port == 80 else [])  # browsers leave out port 80
        if message := folder.message():
            print(message)
        print(f"explore: http://{hosts[0]}/ (Ctrl-C ends it)", flush=True)
        app = make_app(Session(folder, hide_names), hosts)
        former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that a temporary folder is removed
        try:
            uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has ended, and raises the signal again
            print("ended")
        finally:
            signal.signal(signal.SIGTERM, former)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError, TypeError) as error:
        listening.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise CaseError(f"port {port} is in use: give another, or --port 0 for any that is free.") from None
        raise CaseError(f"host {host}, port {port} cannot be served ({error}).") from None
    return listening
