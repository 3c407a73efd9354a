"""`planner calibrate`: factors from the log of one's own run, or tables measured on one's own GPUs."""

from __future__ import annotations

import click

from planner import streams
from planner.commands import completing
from planner.commands.common import Number, Output, emit, output_options, set_option
from planner.errors import InputError, Mistake, Place


@click.command(epilog="Example: planner calibrate example:qwen7b_dapo_h20 --log run.log")
@click.argument("scenario", metavar="[SCENARIO]", required=False, shell_complete=completing.scenarios)
@set_option
@click.option("--log", "log_file", metavar="FILE", help="Log of a run of the scenario: slime, verl, NeMo-RL, tokens/s.")
@click.option("--date", metavar="YYYY-MM-DD", help="Date written into the file; today unless given.")
@click.option("--device", is_flag=True, help="Measure this machine's GPUs instead; --out is then a new folder.")
@click.option("--gpu", metavar="ID", help="With --device: the catalog's entry for this GPU.")
@click.option("--node", metavar="ID", help="With --device: the node type whose collectives these are.")
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=Number(min=0, min_open=True),
    default=600,
    show_default=True,
    help="End without a verdict (exit code 3) after so long; with --device leave out what does not fit.",
)
@output_options(folder=True)
def command(
    scenario: str | None,
    overrides: tuple[str, ...],
    log_file: str | None,
    date: str | None,
    device: bool,
    gpu: str | None,
    node: str | None,
    time_limit: float,
    output: Output,
) -> None:
    """Fit one factor a phase to the log of a run. --out writes the file that a scenario names in `calibration:`.

    With --device, measure the GPUs of this machine (torch needed) into a catalog folder for PLANNER_CATALOGS.
    """
    if device:
        if scenario is not None or log_file is not None:
            raise click.UsageError("--device takes neither a scenario nor --log")
        from planner.commands.calibrate_device import run_device

        run_device(gpu_id=gpu, node_id=node, time_limit=time_limit, day=date or _today(), output=output)
    elif scenario is None or log_file is None:
        raise InputError(
            Mistake(
                "calibrate needs a scenario and a log",
                Place("the command line"),
                "the factors are those of a run that a fully pinned scenario describes",
                "planner calibrate example:qwen7b_rl_8gpu --log run.log",
            )
        )
    else:
        with streams.deadline(time_limit):
            _fit(scenario, overrides, log_file, date or _today(), output)


def _today() -> str:
    import datetime

    return datetime.date.today().isoformat()


def _fit(scenario: str, overrides: tuple[str, ...], log_file: str, day: str, output: Output) -> None:
    from planner.analysis.calibrate.doubts import doubts
    from planner.analysis.calibrate.fit import fit
    from planner.analysis.calibrate.rl_log import read_log
    from planner.inputs.calibration import overlay_text
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.report.calibration import calibration_blocks, calibration_document

    document = load(scenario, overrides)
    catalog = default_catalog()
    fitted = fit(document, read_log(log_file), source=log_file, date=day, catalog=catalog)
    doubtful = doubts(fitted, catalog)
    if output.path is not None:
        emit(overlay_text(fitted.calibration), output.path, output.force)
    if output.path != "-":
        report = Output(output.style, None, False)
        report.write(
            lambda: calibration_blocks(fitted, output.path, scenario, doubtful),
            lambda: calibration_document(fitted, doubtful),
        )
