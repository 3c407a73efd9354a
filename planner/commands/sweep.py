"""`planner sweep`: thousands of variations of a scenario, stored as they come."""

from __future__ import annotations

import click

from planner.commands.common import note, progress, scenario_argument


@click.command(
    epilog="Example: planner sweep example:llama8b_sft_a100 --set limits.headroom_gib=5,10,20 --out rows.jsonl"
)
@scenario_argument
@click.option(
    "--set",
    "values",
    metavar="PATH=VALUE,VALUE",
    multiple=True,
    help="Values to try, each YAML; several --set make every combination. Without any: the scenario's what_if:.",
)
@click.option("--out", required=True, metavar="FILE", help="FILE.jsonl, or FILE.parquet (a folder of files).")
@click.option("--resume", is_flag=True, help="Go on with a file that exists: what is stored is not computed again.")
@click.option(
    "--backend",
    type=click.Choice(["joblib", "dask", "ray"]),
    default="joblib",
    show_default=True,
    help="joblib: processes of this machine; dask and ray: a cluster (local where no --address is given).",
)
@click.option("--address", metavar="ADDRESS", help="Of the Dask scheduler (tcp://...) or of the Ray cluster (auto).")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes on this machine; its processors unless given.")
def command(
    scenario: str,
    values: tuple[str, ...],
    out: str,
    resume: bool,
    backend: str,
    address: str | None,
    workers: int | None,
) -> None:
    """Solve SCENARIO for every combination of values; each row is stored as soon as it is done.

    A row says `refused`, `infeasible`, `unknown` or `failed` with its reason where there is no plan. A sweep that was
    killed goes on with --resume.
    """
    from planner.analysis.sweep.sweep import run_sweep
    from planner.inputs.saved import load

    def begun(variants: int, stored: int) -> None:
        note(f"{variants} variants, {stored} stored already, {variants - stored} to solve")

    done = run_sweep(
        load(scenario),
        values,
        out,
        resume=resume,
        backend=backend,
        address=address,
        workers=workers,
        begun=begun,
        progress=progress,
    )
    said = ", ".join(f"{count} {status}" for status, count in done.counts.items()) or "nothing left to solve"
    note(f"written: {out}: {said}")
