"""``dr2e pairs``: training pairs of good faces, or go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from jobs.cli import QUARANTINED
from jobs.images import image_config, names_images
from jobs.options import as_json, config_from, events, metrics_port, pair_options
from jobs.restore import completing, interruptible
from pipeline.config import Config, ConfigError, Pairs, build
from pipeline.driver import execute, prepare
from pipeline.events.lines import events_to


@dataclass(frozen=True)
class Summary:
    """A finished set of pairs. card: URL of its page. was_complete: nothing was left to do. pairs: by split. targets:
    faces that became pairs. left_out: photos without pairs, by reason. evaluations: of the network, for all of it."""

    output: str
    card: str
    was_complete: bool
    pairs: dict[str, int]
    targets: int
    left_out: dict[str, int]
    evaluations: int

    @property
    def faulty(self) -> int:
        """Photos left out for another reason than that their face is not good enough, or that they have none."""
        return sum(count for code, count in self.left_out.items() if not code.startswith(("gate.", "face.")))


def pairs(config: Config | Mapping[str, Any], *, address: str | None = None, progress: TextIO | None = None) -> Summary:
    """Make the pairs that ``config`` asks for and that are not there yet; returns when all is done.

    config, address, progress, and what is raised: as for `jobs.restore.restore`. Without a section ``pairs`` its
    defaults hold.
    """
    config = with_pairs(config if isinstance(config, Config) else build(config))
    prepared = prepare(image_config(config) if names_images(config) else config)
    output, was_complete = prepared.run.output, prepared.plan.complete
    execute(prepared, address, progress)
    from pipeline.pairs.card import README, publish, published

    with completing(was_complete):
        info = (published(output) if was_complete else None) or publish(output)
    url, splits = output.location.url, info["splits"]
    return Summary(
        output=url,
        card=f"{url}/{README}",
        was_complete=was_complete,
        pairs={name: split["num_examples"] for name, split in splits.items()},
        targets=sum(split["num_targets"] for split in splits.values()),
        left_out=info["left_out"],
        evaluations=info["evaluations"],
    )


def with_pairs(config: Config) -> Config:
    """`config` with the section, its defaults if it has none. Raises ConfigError for settings that keep faces."""
    if config.keep is not None:
        raise ConfigError("keep: these settings keep faces to train on, which is what 'dr2e curate' does")
    return config if config.pairs is not None else config.model_copy(update={"pairs": Pairs()})


@click.command("pairs")
@pair_options
@click.option("--address", metavar="ADDRESS", help="A Ray cluster; else RAY_ADDRESS; else Ray starts on this machine.")
@events
@metrics_port
@as_json
@click.pass_context
def command(context: click.Context, /, address: str | None, events: Path | None, as_json: bool, **options: Any) -> None:
    """Make training pairs of good faces: each face as it is, and degraded.

    Reads shards of good photographs. The face of each (labelled as landmarks5 in the sample's JSON, or else the surest
    that is found) is cut out upright at --size pixels and degraded --pairs-per-face times. Recipes:

    \b
      dr2           DR2 and a blur, as the paper trains its enhancer (Eq. 12); N, taus and sigma: --set pairs.n=4 ...
      classical     blur, downsampling, noise and JPEG, as the paper tests (Eq. 13); --set pairs.severity=severe
      second-order  blur, resize, noise and JPEG, twice
      dr2=0.7,classical=0.3   shares

    Every draw follows from the seed, the photo's key and the pair's number, so a pair does not depend on how many there
    are. Samples KEY-P.lq.png, KEY-P.hq.png and KEY-P.json lie shuffled in shards/ and, for a tenth of the keys, or with
    --identity of the persons, in validation/; README.md is the data card, train.txt and validation.txt name the shards.
    Run the same command again to resume.

    \b
      dr2e pairs --input faces/ --output pairs
      dr2e pairs --input 's3://faces/{000..999}.tar' --output s3://pairs --pairs-per-face 8 --identity '^[^_]+'
      dr2e pairs --input faces/ --output pairs --set pairs.gate.niqe=5 --set pairs.gate.turn=0.3

    Near-duplicates are looked for, in all shards together, when it is said how many of the 64 bits of their perceptual
    hashes may differ; of several the first by shard name and place is kept. 5 suits up to 100,000 faces, 2 a million:

    \b
      dr2e pairs --input faces/ --output pairs --set pairs.gate.duplicates=5

    Exit codes: 0 complete, 1 failed, 2 usage or configuration, 3 complete but for photos with a fault, 128+n signal n.
    """
    with interruptible(), events_to(events):
        summary = pairs(config_from(**options), address=address)
    click.echo(json.dumps(vars(summary), indent=1) if as_json else describe(summary))
    context.exit(QUARANTINED if summary.faulty else 0)


def describe(summary: Summary) -> str:
    """The summary for a person."""
    lines = ["nothing was left to do: this set is complete"] if summary.was_complete else []
    per_target = summary.evaluations / summary.targets if summary.targets else 0.0
    lines += [
        f"pairs        {summary.pairs['train']:,} for training, {summary.pairs['validation']:,} for validation",
        f"faces        {summary.targets:,}, {per_target:.1f} evaluations of the network each",
        *(f"left out     {count:,} {code}" for code, count in summary.left_out.items()),
        f"output       {summary.output}",
        f"card         {summary.card}",
    ]
    return "\n".join(lines)
