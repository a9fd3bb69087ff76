"""``dr2e evaluate``: degrade sharp faces, restore them, and measure what came back."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from jobs.cli import QUARANTINED
from jobs.options import as_json, config_from, metrics_port, run_options
from jobs.restore import interruptible
from operators.quality.metrics.names import METRICS
from pipeline.config import Config, build

STEP = 10
"""From one tau of the paper's grid to the next, timesteps of 1000."""

COMPARED = "compare"
"""What --select is without a value."""

UNIT = 8
"""Photos per unit unless the configuration has its own: each becomes a face per setting, so units stay short."""

_FILES = "\n".join(
    f"      {file.name}  {metric.label.partition(',')[0]} ({file.note})" for metric in METRICS for file in metric.files
)


@dataclass(frozen=True)
class EvaluationSummary:
    """A finished evaluation. page, table: URLs of the Markdown and the JSON; sheets: folder of the contact sheets.

    markdown: the page. document: the content of the JSON. unreadable: photos left out because something is wrong
    with them. was_complete: nothing was left to do but the table.
    """

    output: str
    page: str
    table: str
    sheets: str
    was_complete: bool
    unreadable: int
    markdown: str
    document: dict[str, Any]


def evaluate(
    config: Config | Mapping[str, Any],
    *,
    size: int = 256,
    settings: str | None = None,
    held_out: bool = False,
    faces: int | None = None,
    grid: int | None = None,
    weights: str | Path | None = None,
    metrics: str | None = None,
    address: str | None = None,
    progress: TextIO | None = None,
) -> EvaluationSummary:
    """Measure the method on the sharp faces that `config` names as input; returns when all is done.

    config: as for `restore`. size: side in pixels of the truth and of all measuring. settings: such as
    "severe-16,severe-8"; all nine without. held_out: only the tenth of keys that training leaves out. faces: photos
    at most. grid: measure the choice of (N, tau) instead of the settings: every photo at one setting, drawn by its key
    (clean is one of them), and every N with every tau of a grid this fine, in timesteps. weights: folder with the
    files of metrics that need some. metrics: of pyiqa, such as "musiq,dists", to measure besides. address, progress: as
    for `restore`.

    Raises what `restore` raises, and WeightsError for a broken file of weights.
    """
    from pipeline.evaluation.driver import PAGE, SHEETS, TABLE, execute, prepare, publish
    from pipeline.evaluation.settings import CLEAN, SETTINGS, evaluate_section, settings_named

    known = SETTINGS if grid is None else (CLEAN, *SETTINGS)
    names = tuple(setting.name for setting in settings_named(settings, known))
    section = evaluate_section(
        size=size,
        settings=names,
        held_out=held_out,
        faces=faces,
        grid=grid,
        folder=None if weights is None else str(Path(weights).absolute()),
        metrics=tuple(name.strip() for name in (metrics or "").split(",") if name.strip()),
    )
    prepared = prepare(of_short_units(config if isinstance(config, Config) else build(config)), section)
    execute(prepared, address, progress)
    found, url = publish(prepared), prepared.location.url
    return EvaluationSummary(
        output=url,
        page=f"{url}/{PAGE}",
        table=f"{url}/{TABLE}",
        sheets=f"{url}/{SHEETS}",
        was_complete=not prepared.pending,
        unreadable=found.unreadable,
        markdown=found.page,
        document=found.document,
    )


def of_short_units(config: Config) -> Config:
    """`config` with UNIT photos per unit, unless it says how many."""
    if "max_samples" in config.unit.model_fields_set:
        return config
    return config.model_copy(update={"unit": config.unit.model_copy(update={"max_samples": UNIT})})


@click.command(
    "evaluate",
    help=f"""Measure the method on sharp faces.

    Takes WebDataset shards of good photographs, degrades the face of each by Eq. 13 of the DR2E paper at r = 4, 8, 16
    and three severities, restores it as 'dr2e restore' would, and compares it with what it was. Writes table.md,
    table.json, contact sheets and, per unit, every face's numbers below --output. A sample's JSON may hold five
    landmarks as landmarks5; otherwise the surest face that is found counts. Run the same command again to resume.

    With --select alone it measures the choice of N and tau instead: every photo at one setting or clean, drawn by its
    key, and its face restored with every N of 1, 2, 4, 8, 16 and every tau of 0, 10 .. 400 (--grid-step 10). The page
    compares the automatic choice with the lowest NIQE, the authors' pairs, the best fixed pair and each face's best;
    curves.png holds the curves of the paper's Figure 9. What it stores is what 'dr2e fit-selection' fits to, however
    coarse the grid.

    \b
      dr2e evaluate --input faces/ --output evaluation --held-out
      dr2e evaluate --input faces/ --output quick --faces 20 --settings severe-16,severe-8
      dr2e evaluate --input faces/ --output choice --select --held-out --grid-step 40

    PSNR, SSIM, MS-SSIM, GMSD and NIQE need nothing else. The others need these files in --weights, as they were
    published; none is ever downloaded, and metrics without theirs are left out:

    \b
{_FILES}

    --metrics adds any metric of single faces that pyiqa has, by its name there: --metrics musiq,maniqa. Their files are
    looked for in --weights as well, under the names pyiqa publishes them by, and a missing one is named.

    Exit codes: 0 complete, 1 failed, 2 usage or configuration, 3 complete but for unreadable photos, 128+n signal n.
    """,
)
@functools.partial(
    run_options,
    select=click.option(
        "--select",
        is_flag=False,
        flag_value=COMPARED,
        type=click.Choice(["niqe", "fixed", COMPARED]),
        help="Choose (N, tau) per face, or fix it; alone: compare ways to choose.",
    ),
)
@click.option(
    "--grid-step",
    type=click.IntRange(10, 400),
    help=f"With --select alone: from one tau to the next, a multiple of 10.  [default: {STEP}]",
)
@click.option("--held-out", is_flag=True, help="Only the tenth of keys that training leaves out.")
@click.option("--faces", type=click.IntRange(1), help="Photos at most, the first by the hash of their key.")
@click.option("--size", default=256, show_default=True, help="Side in pixels of the truth and of all measuring.")
@click.option(
    "--settings", metavar="NAMES", help="Such as severe-16,severe-8; all nine (and clean-1 with --select) unless given."
)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="DIR", help="Folder, on every node, with weights of metrics."
)
@click.option("--metrics", metavar="NAMES", help="Metrics of pyiqa to measure besides, such as musiq,dists.")
@click.option("--address", metavar="ADDRESS", help="A Ray cluster; else RAY_ADDRESS; else Ray starts on this machine.")
@metrics_port
@as_json
@click.pass_context
def command(
    context: click.Context,
    /,
    grid_step: int | None,
    held_out: bool,
    faces: int | None,
    size: int,
    settings: str | None,
    weights: Path | None,
    metrics: str | None,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    grid = grid_asked(options["select"], grid_step)
    if grid is not None:
        options["select"] = None
    with interruptible("the same command continues from what is stored"):
        summary = evaluate(
            config_from(**options),
            size=size,
            settings=settings,
            held_out=held_out,
            faces=faces,
            grid=grid,
            weights=weights,
            metrics=metrics,
            address=address,
        )
    if as_json:
        click.echo(json.dumps(vars(summary), indent=1))
    else:
        click.echo(describe(summary))
    context.exit(QUARANTINED if summary.unreadable else 0)


def grid_asked(select: str | None, grid_step: int | None) -> int | None:
    """How fine a grid is to be measured, in timesteps; None where none is. Raises UsageError."""
    compares = select == COMPARED
    if grid_step is not None and not compares:
        raise click.UsageError("--grid-step belongs to --select without a value")
    if grid_step is not None and grid_step % STEP:
        raise click.UsageError(f"--grid-step: {grid_step} is no multiple of {STEP}")
    return (grid_step or STEP) if compares else None


def describe(summary: EvaluationSummary) -> str:
    """The summary for a person."""
    return "\n".join(
        [
            *(["nothing was left to do: this evaluation is complete\n"] if summary.was_complete else []),
            summary.markdown,
            f"table   {summary.table}",
            f"sheets  {summary.sheets}",
        ]
    )
