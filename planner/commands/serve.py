"""`planner serve`: the page, on loopback."""

from __future__ import annotations

import click

from planner.commands.common import emit_files, progress


@click.command(epilog="Needs the extra: pip install 'planner[web]'")
@click.argument("scenario", default="qwen7b_rl")
@click.option("--port", type=click.IntRange(0, 65535), default=8008, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address demands a token.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes that solve.")
@click.option("--export", "folder", metavar="DIR", help="Write the shipped scenarios and answers as files instead.")
@click.option("--force", is_flag=True, help="Replace files of --export.")
def command(scenario: str, port: int, host: str, workers: int, folder: str | None, force: bool) -> None:
    """Serve a page on which plans are asked for, compared and explained; SCENARIO is the shipped one it opens with."""
    if folder is not None:
        from planner.inputs.catalog import default_catalog
        from planner.web.export import exported

        emit_files(exported(default_catalog(), progress=progress), folder, force)
        return
    from planner.web.serving import serve

    serve(host=host, port=port, workers=workers, start=scenario)
