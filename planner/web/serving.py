"""The server process: an address, a token where others can reach it, and the application."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import replace

import click

from planner.errors import InputError, Mistake, Place
from planner.web.limits import ServerLimits
from planner.web.workers import Workers

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def serve(*, host: str, port: int, workers: int, start: str) -> None:
    """Serve until interrupted. Raises InputError where the address cannot be taken or the extra is not installed."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        place, because = Place(f"--host {host} --port {port}"), error.strerror or str(error)
        raise InputError(Mistake("cannot listen there", place, because, "--port 0 takes a free one")) from None
    solving = Workers(replace(ServerLimits(), workers=workers))
    solving.start()  # its nursery imports what it needs while this process does
    try:
        _serve(listening, host, start, solving)
    finally:
        solving.stop()


def _serve(listening: socket.socket, host: str, start: str, solving: Workers) -> None:
    from planner.inputs.examples import EXAMPLE, missing
    from planner.web.base import scenarios

    start = start.removeprefix(EXAMPLE)
    if start not in scenarios():
        raise InputError(missing(f"{EXAMPLE}{start}", Place("SCENARIO")))
    try:
        import uvicorn

        from planner.web.app import application
    except ModuleNotFoundError as error:
        because = f"{error.name} is not installed"
        raise InputError(
            Mistake("planner serve needs its extra", None, because, "pip install 'planner[web]'")
        ) from None
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    click.echo(address if token is None else f"{address}?token={token}")
    app = application(solving, token=token, hosts=LOOPBACK if token is None else None, start=start)
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=5, limit_concurrency=256, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Is this address reachable from this machine alone."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
