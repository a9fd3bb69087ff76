"""An evaluation from its configuration to its table: checked before Ray starts, then what is missing, then the page."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from operators.quality.metrics.names import METRICS, Metric, measurable
from operators.training.weights import sha256_file
from pipeline.config import DR2, Config, ConfigError
from pipeline.evaluation.choice.publish import measure_choice
from pipeline.evaluation.faces import NO_TRUTH
from pipeline.evaluation.measure import FACES, Measure, object_name, panel
from pipeline.evaluation.results import PhotoResult, from_parquet
from pipeline.evaluation.sample import Sample, choose
from pipeline.evaluation.settings import Evaluate, EvaluationConfig
from pipeline.evaluation.sheets import sheets
from pipeline.evaluation.statistics import Row, rows
from pipeline.evaluation.table import document, markdown
from pipeline.events.telling import of_run
from pipeline.inputs import ShardRef, resolve_inputs
from pipeline.ledger import LedgerError, finite, read_description
from pipeline.models import describe
from pipeline.parquet import ParquetError
from pipeline.run import Run
from pipeline.storage import Location
from pipeline.units import Unit

SETTINGS, TABLE, PAGE, SHEETS = "evaluation-settings.json", "table.json", "table.md", "sheets"
CURVES = "curves.png"
_ROLES = ("prior", "enhancer", "niqe", "policy")
_ROLES_WITHOUT_DR2 = ("remover", "enhancer", "niqe")
_READERS = 16  # requests in flight; object stores answer slowly but in parallel


@dataclass(frozen=True)
class Prepared:
    """An evaluation that may start. absent: metrics that lack their weights."""

    run: Run
    config: EvaluationConfig
    shards: Sequence[ShardRef]
    sample: Sample
    pending: tuple[Unit, ...]
    metrics: tuple[Metric, ...]
    absent: tuple[Metric, ...]

    @property
    def location(self) -> Location:
        return self.run.output.location


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation. page: its Markdown. document: its JSON. unreadable: photos left out for a fault."""

    page: str
    document: dict[str, Any]
    rows: tuple[Row, ...]
    unreadable: int


def prepare(config: Config, evaluate: Evaluate) -> Prepared:
    """Check models, weights, input and output, choose the photos, and find what is left; writes nothing.

    evaluate: as the user has it; what is found is filled in here. Raises ConfigError, ModelError, InputError,
    StorageError, LedgerError or RunMismatch, each in one line.
    """
    if evaluate.grid is not None and config.restore.remover != DR2:
        raise ConfigError(f"restore.remover: the choice of (N, tau) is measured with DR2; leave it out, or use {DR2}")
    folder = None if evaluate.folder is None else Path(evaluate.folder)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--weights: {folder} is no folder; name the one that holds the metrics' weights")
    metrics, absent = measurable(folder)
    named, files = _named(evaluate.metrics, folder, absent)
    models = describe(config)
    shards = resolve_inputs(config.input, config.storage.input)
    sample = choose(shards, config.storage.input, config.unit, only_held_out=evaluate.held_out, most=evaluate.faces)
    weights = {**_hashes(metrics, folder), **files}
    others = tuple(metric.name for metric in named)
    found = {"sample": sample.fingerprint, "shown": sample.shown, "weights": weights, "metrics": others}
    complete = EvaluationConfig.of(config, evaluate.model_copy(update=found))
    run = Run(complete, models)
    if before := recorded(run.output.location):
        run.check(before)
    stored = {entry.name for entry in run.output.location.entries(FACES)}
    pending = tuple(unit for unit in sample.units if object_name(unit.id) not in stored)
    return Prepared(run, complete, shards, sample, pending, (*metrics, *named), tuple(absent))


def execute(prepared: Prepared, address: str | None = None, progress: TextIO | None = None) -> None:
    """Evaluate what is left, on Ray. Returns when every unit is stored.

    address, progress: as in `pipeline.driver.execute`. Raises StorageError, RunMismatch or WeightsError before Ray
    starts, ClusterError when it cannot, and RunFailed when units stay undone; the same call continues.
    """
    if not prepared.pending:
        return
    location, run = prepared.location, prepared.run
    location.probe()
    location.put_if_absent(SETTINGS, json.dumps(_record(prepared), indent=1).encode())
    run.check(recorded(location) or {})
    evaluate = prepared.config.evaluate
    if evaluate.weights:
        # A broken file is told now and not by every worker.
        panel(prepared.config.restore.niqe, evaluate.folder, evaluate.metrics)

    from pipeline.evaluation.rounds import run_rounds  # Ray, which a finished evaluation does without

    config = EvaluationConfig.of(prepared.config.without_secrets(), evaluate)
    shares = {unit.id: float(sum(sample.bytes for sample in unit.samples)) for unit in prepared.pending}
    with of_run(run.label):
        run_rounds(run, prepared.pending, Measure(config, location, shares), address, progress)


def publish(prepared: Prepared) -> Evaluation:
    """Make table and contact sheets of what is stored. Raises StorageError, and LedgerError for a broken object."""
    location, evaluate = prepared.location, prepared.config.evaluate
    photos = results(location, [object_name(unit.id) for unit in prepared.sample.units])
    numbers = rows(photos, prepared.config.chosen_settings, prepared.metrics)
    method = prepared.config.restore.method
    page = markdown(numbers, photos, prepared.absent, size=evaluate.size, made_with=_made_with(prepared),
                    remover=method)  # fmt: skip
    values = {**document(numbers, photos, prepared.absent), "evaluation": recorded(location)}
    if evaluate.grid is not None and (faces := [face for photo in photos for face in photo.faces]):
        measured = measure_choice(prepared.config, prepared.run.models, prepared.metrics, faces)
        page, values["choice"] = f"{measured.page}\n\n{page}", measured.document
        location.put(CURVES, measured.curves)
    values = finite(values)
    location.put(PAGE, page.encode())
    location.put(TABLE, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode())
    for setting, sheet in sheets(photos, prepared.config.chosen_settings, evaluate.shown, method):
        location.put(f"{SHEETS}/{setting.name}.png", sheet)
    unreadable = sum(photo.status == "left_out" and photo.error not in NO_TRUTH for photo in photos)
    return Evaluation(page, values, tuple(numbers), unreadable)


def results(location: Location, names: Sequence[str]) -> list[PhotoResult]:
    """The photos of some stored units, by the names of their objects. Raises StorageError and LedgerError."""

    def read(name: str) -> list[PhotoResult]:
        try:
            return from_parquet(location.read(name))
        except (ParquetError, TypeError, KeyError) as error:
            reason = str(error) if isinstance(error, ParquetError) else type(error).__name__
            raise LedgerError(f"{location.url}/{name} is damaged ({reason}); delete it and run again") from None

    with ThreadPoolExecutor(_READERS) as pool:
        return [photo for photos in pool.map(read, names) for photo in photos]


def _record(prepared: Prepared) -> dict[str, Any]:
    """What the evaluation is: a run's record, and the machine it was begun on."""
    machine = {"platform": platform.platform(), "processor": _processor(), "cpus": os.cpu_count()}
    return {**prepared.run.record(prepared.shards), "machine": machine}


def _made_with(prepared: Prepared) -> str:
    """What made the numbers, for a person; evaluation-settings.json has all of it."""
    models, config = prepared.run.models.to_json(), prepared.config
    roles = _ROLES if "remover" not in models else _ROLES_WITHOUT_DR2
    names = [f"{role} {models[role]['name']} {models[role]['sha256'][:8]}".rstrip() for role in roles]
    fixed = config.restore.select == "fixed"
    choice = f"N = {config.restore.n}, tau = {config.restore.tau}" if fixed else "N and tau chosen per face"
    choice = choice if config.restore.remover == DR2 else "one pass of the remover, without N and tau"
    keys = "held-out keys only" if config.evaluate.held_out else "all keys"
    return f"Made with {', '.join(names)}; {choice}; seed {config.seed}; {keys}."


def recorded(location: Location) -> dict[str, Any] | None:
    """What the evaluation at `location` is, as it was recorded when it began; None where there is none."""
    return read_description(location, SETTINGS, "an evaluation")


def _named(names: Sequence[str], folder: Path | None, absent: Sequence[Metric]) -> tuple[list[Metric], dict[str, str]]:
    """The metrics of pyiqa among these names, and the hashes of their files; each is made once, so that what is wrong
    is told before anything starts. Raises ConfigError, also for another metric that lacks its files."""
    found: list[Metric] = []
    hashes: dict[str, str] = {}
    lacking = {metric.name: metric for metric in absent}
    for name in dict.fromkeys(names):
        if name in lacking:
            files = ", ".join(file.name for file in lacking[name].files)
            raise ConfigError(f"--metrics: {name} needs {files}; put them into the folder that --weights names")
        if name in {metric.name for metric in METRICS}:
            continue
        from operators.quality.metrics.named import NamedMetric, describe  # pyiqa
        from operators.training.weights import WeightsError

        try:
            files_of = NamedMetric(name, folder).files
            found.append(describe(name))
        except WeightsError as error:
            raise ConfigError(f"--metrics: {error}" + ("" if folder else " with --weights")) from None
        if files_of:
            hashes[name] = " ".join(sha256_file(path) for path in files_of)
    return found, hashes


def _hashes(metrics: Sequence[Metric], folder: Path | None) -> dict[str, str]:
    return {
        metric.name: " ".join(sha256_file(folder / file.name) for file in metric.files)
        for metric in metrics
        if folder is not None and metric.files
    }


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
