# SPDX-License-Identifier: Apache-2.0
"""Who may ask the server: pages of its own origin, under a name that it was told."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "SameOrigin"]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' blob:; worker-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SameOrigin:
    """
    ASGI middleware that refuses other methods than GET, a ``Host`` that is not one of the server's names (DNS
    rebinding), and what a page of another origin asks for; a link to the page itself may come from anywhere. It adds
    the security headers to every answer.

    Args:
        app: the application.
        hosts: names with port under which the server is asked, such as ``127.0.0.1:8765``.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refused(scope["method"], scope["path"], Headers(scope=scope))
        if refused is not None:
            await JSONResponse({"error": refused}, 403)(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)

    def _refused(self, method: str, path: str, headers: Headers) -> str | None:
        if method not in ("GET", "HEAD"):
            return f"The method {method} is not taken."
        if headers.get("host", "").lower() not in self.hosts:
            return "This name of the server is not known to it."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() not in self.hosts:
            return "Requests from other origins are refused."
        site = headers.get("sec-fetch-site", "same-origin")
        opens_page = path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not opens_page:
            return "Requests from other origins are refused."
        return None
