"""``dr2e deploy``: the manifests of a cluster, written from its shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from jobs.options import Decorator
from pipeline.config import ConfigError


def _out(folder: str) -> Decorator:
    """Where the files go."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--out", type=kind, default=folder, show_default=True, metavar="FOLDER")


@click.group("deploy")
def command() -> None:
    """Write what a cluster is started with; nothing is started."""


@command.command("kuberay")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The shape of the cluster, YAML.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One number of it: gpu.count=8.")
@_out("deploy/kuberay")
def kuberay(config: Path | None, assignments: tuple[str, ...], out: Path) -> None:
    """Write the Kubernetes manifests of a deployment with the KubeRay operator.

    \b
    dr2e deploy kuberay --out manifests --set image=registry.example.org/dr2e:0.1.0 --set gpu.count=8 \\
        --set input=s3://archive/shards --set output=s3://archive/restored

    The names that can be set, and what they are without: jobs/deployment/shape.py. Files that are there are
    replaced. docs/cluster.md says how to apply them.
    """
    from jobs.deployment.kuberay import manifests
    from jobs.deployment.shape import read

    _write(manifests(read(config, assignments)), out)


@command.command("grafana")
@_out("deploy/grafana")
def grafana(out: Path) -> None:
    """Write the dashboard for Grafana and the alerts for Prometheus.

    \b
    dr2e deploy grafana --out grafana

    Files that are there are replaced. docs/metrics.md says how to use them.
    """
    from jobs.deployment.grafana import files

    _write(files(), out)


def _write(found: Mapping[str, str], out: Path) -> None:
    """The files by their names into a folder. Raises ConfigError when it cannot be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (out / name).write_text(text, encoding="utf-8")
            click.echo(out / name)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}; name another --out") from None
