"""What stands before every request: length of address and body, time to arrive, token, and headers of every answer.

Plain ASGI, so that a body is counted while it arrives and never held whole where it is too long.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from planner.web.limits import ServerLimits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "planner_token"
OPEN_PATHS = frozenset({"/healthz"})
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
     b"img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


class Guard:
    """Wraps an application with the limits of a server."""

    def __init__(self, app: App, limits: ServerLimits, token: str | None, hosts: frozenset[str] | None) -> None:
        self.app, self.limits, self.token, self.hosts = app, limits, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with the limit that it breaks."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = False

        async def with_headers(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                sent = True
                message["headers"] = [*message.get("headers", ()), *HEADERS, *self._cookie(scope)]
            await send(message)

        try:
            self._look(scope)
            await self.app(scope, await self._body(scope, receive), with_headers)
        except _Refused as refused:
            if not sent:
                await _plain(with_headers, refused.status, refused.text)

    def _look(self, scope: Scope) -> None:
        length = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
        if length > self.limits.url_bytes:
            raise _Refused(414, f"The address is longer than {self.limits.url_bytes} bytes.")
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].strip("[]").lower()
        if self.hosts is not None and host not in self.hosts:
            raise _Refused(421, "This server answers to the names it was started with only (--host).")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise _Refused(400, "content-length is no number.")
        if len(declared) > 18 or int(declared) > self.limits.body_bytes:
            raise _Refused(413, f"The body is longer than {self.limits.body_bytes} bytes.")
        if self.token is not None and scope["path"] not in OPEN_PATHS and not self._is_known(scope, headers):
            raise _Refused(401, "A token is needed: open the address that `planner serve` printed.")

    def _is_known(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        assert self.token is not None
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
        except CookieError:
            cookie = None
        bearer = headers.get(b"authorization", b"").decode("latin-1").removeprefix("Bearer ")
        given = [bearer, cookie.value if cookie else "", *_tokens(scope)]
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in given)

    def _cookie(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """The token of an address is kept as a cookie, so that links need not carry it."""
        if self.token is None or self.token not in _tokens(scope):
            return []
        return [(b"set-cookie", f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/".encode())]

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """A receive that gives the whole body at once, read here within the limits."""
        parts, more, size = [], scope["method"] not in ("GET", "HEAD"), 0
        until = asyncio.get_running_loop().time() + self.limits.read_seconds
        while more:
            try:
                left = until - asyncio.get_running_loop().time()
                message = await asyncio.wait_for(receive(), max(0.001, left))
            except TimeoutError:
                raise _Refused(408, f"The body did not arrive within {self.limits.read_seconds:g} s.") from None
            if message["type"] == "http.disconnect":
                raise _Refused(400, "The request broke off.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body_bytes:
                raise _Refused(413, f"The body is longer than {self.limits.body_bytes} bytes.")
            more = message.get("more_body", False)
        whole: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return again


def _tokens(scope: Scope) -> list[str]:
    return parse_qs((scope.get("query_string") or b"").decode("latin-1")).get("token", [])


async def _plain(send: Send, status: int, text: str) -> None:
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", b"text/plain; charset=utf-8")],
    }
    await send(start)
    await send({"type": "http.response.body", "body": text.encode() + b"\n"})
