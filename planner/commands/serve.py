"""`planner serve`: the page, on loopback."""

from __future__ import annotations

import click


@click.command(epilog="Needs the extra: pip install 'planner[web]'")
@click.argument("scenario", default="qwen7b_rl")
@click.option("--port", type=click.IntRange(0, 65535), default=8008, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address demands a token.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes that solve.")
def command(scenario: str, port: int, host: str, workers: int) -> None:
    """Serve a page on which plans are asked for, compared and explained; SCENARIO is the shipped one it opens with."""
    from planner.web.serving import serve

    serve(host=host, port=port, workers=workers, start=scenario)
