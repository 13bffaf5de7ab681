"""Serves the pages: who may see them, and from where.

Other web pages in the same browser must reach nothing.  A name that points to this machine, but is
not one of its names, is refused (DNS rebinding); so is a request that another page has caused, by
its Origin.  Where a token is needed, it comes with the address once, and is kept in a cookie that
no script reads and no other site sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from html import escape
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optomatic import _config

#: Nothing is loaded from anywhere else.  Vue compiles its templates in the browser.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; font-src 'self' data:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
#: Addresses at which a server listens on all networks.
_EVERYWHERE = ("", "0.0.0.0", "::")
_SAFE = ("GET", "HEAD", "OPTIONS")
#: Seconds for which a thread may go on while another one waits (by default 0.005).
_SWITCH = 0.0005
#: Seconds that pages have to close when the server ends.
_FAREWELL = 2


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets in who asks for one of the names of this machine, by its own pages, with the token.

    Parameters
    ----------
    app : ASGI application
    host : str
        The name or address at which the server listens.
    token : str
        Empty if none is needed.
    port : int
        Names the cookie: browsers send cookies to all ports of a machine.
    """

    def __init__(self, app: ASGIApp, host: str, token: str, port: int = 0) -> None:
        self.app = app
        self._host, self._token = host.lower(), token
        self._cookie = f"optomatic-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        answer: ASGIApp = self.app
        if scope["type"] != "lifespan":
            send = _with_headers(send)
            answer = self._answer(scope)
        # A request that is still open when the server ends is cancelled.
        with contextlib.suppress(asyncio.CancelledError):
            await answer(scope, receive, send)

    def _answer(self, scope: Scope) -> ASGIApp:
        """Return what answers a request."""
        headers = Headers(scope=scope)
        why = self._foreign(scope, headers)
        if not why and not self._knows_token(headers):
            if scope["type"] == "http" and self._brings_token(scope):
                return self._welcome(scope)
            why = "This dashboard needs its token. Open the address that its command has printed."
        if not why:
            return self.app
        return _close if scope["type"] == "websocket" else PlainTextResponse(why, 403)

    def _foreign(self, scope: Scope, headers: Headers) -> str:
        """Return why a request is not one of these pages; empty if it is."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(urlsplit(f"//{host}").hostname or ""):
            return "This dashboard is not known by that name. Use the address that it has printed."
        if origin is None:
            # Browsers always send it with these.
            changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
            return "A request that may change something has to say its origin." if changes else ""
        if urlsplit(origin).netloc.lower() != host.lower():
            return "Another page has caused this request, so it is refused."
        return ""

    def _is_ours(self, name: str) -> bool:
        """Return whether a name of the Host header is of this machine.

        An address is: only a name can be made to point here.
        """
        if name in (self._host, "localhost"):
            return True
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        mine = {socket.gethostname().lower(), socket.getfqdn().lower()}
        return not is_loopback(self._host) and name in mine

    def _knows_token(self, headers: Headers) -> bool:
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        return not self._token or self._is_token(cookie)

    def _brings_token(self, scope: Scope) -> bool:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")
        return self._is_token(given)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())

    def _welcome(self, scope: Scope) -> HTMLResponse:
        """Set the cookie, and go on without the token in the address.

        A redirect would come from the page with the link, and have no cookie.
        """
        rest = [p for p in parse_qsl(scope["query_string"].decode("latin-1")) if p[0] != "token"]
        place = "/" + quote(scope["path"].lstrip("/")) + (f"?{urlencode(rest)}" if rest else "")
        page = (
            f'<meta http-equiv="refresh" content="0;url={escape(place)}"><title>optomatic</title>'
        )
        response = HTMLResponse(page)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response


async def _close(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008, "reason": "refused"})


def _with_headers(send: Send) -> Send:
    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return send_all


def serve(
    app: FastAPI, *, host: str, port: int, token: str, browser: bool, say: Callable[[str], None]
) -> None:
    """Serve pages until Ctrl-C; `say` gets the address once it can be opened.

    Raise OSError if nobody can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"The dashboard cannot listen at {host}, port {port} ({error.strerror}). Nothing was "
            "started. Give another --port or --host."
        ) from error
    port = listening.getsockname()[1]
    name = socket.gethostname() if host in _EVERYWHERE else host
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
    guard = Guard(app, host, token, port)
    server = uvicorn.Server(
        uvicorn.Config(
            guard, log_level="warning", server_header=False, access_log=False,
            timeout_graceful_shutdown=_FAREWELL,
        )
    )  # fmt: skip
    say(f"{address}?token={token}" if token else address)
    # With a token its address would be seen on the command line of the browser.
    if browser and not token and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(address)
    # Threads that read and draw hold the interpreter: answers to browsers need not wait for long.
    sys.setswitchinterval(_SWITCH)
    server.run(sockets=[listening])


def token_for(host: str, allow_changes: bool) -> str:
    """Return the token of a dashboard, new unless the user has set one; empty if it needs none."""
    if is_loopback(host) and not allow_changes:
        return ""
    return _config.setting(_config.DASHBOARD_TOKEN) or secrets.token_urlsafe(24)
