"""``dr2e models``: published and own models by name, kept where runs find them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from jobs.options import as_json, parse_storage, storage_options
from jobs.store.tables import described, in_words, listed, rows
from pipeline.store.catalogue import CATALOGUE, Published, published
from pipeline.store.errors import ModelError
from pipeline.store.keeping import ModelStore
from pipeline.store.licences import refusal
from pipeline.store.places import copies_folder, open_store
from pipeline.store.record import ROLES, Record, is_model_name

accept = click.option(
    "--accept-licence",
    "accepted",
    is_flag=True,
    help="Acknowledge a licence that forbids commercial use, once for all.",
)


@dataclass(frozen=True)
class Place:
    """The store that a command is about, and the folder of this machine for what is not finished."""

    store: ModelStore
    copies: Path


@click.group("models")
@click.option(
    "--store",
    envvar="DR2E_MODELS",
    show_envvar=True,
    metavar="URL",
    help="Folder or bucket of the store; else one in your cache folder.",
)
@storage_options
@click.pass_context
def command(context: click.Context, store: str | None, storage_options: str | None) -> None:
    """Keep published and own models where runs find them by name.

    \b
    dr2e models list                                   # what is known, and what is there
    dr2e models pull gfpgan-1.4                        # download, check, store
    dr2e models add ffhq_10m.pt                        # a file that you have
    dr2e restore --enhancer gfpgan-1.4 --prior ffhq_10m --input photo.jpg --output out

    A store is a folder or a bucket; name it for runs with --set models.store=URL or DR2E_MODELS. Files are stored
    as they came, with a record of what they are (SHA-256, architecture, licence); what no loader of dr2e knows is
    refused, and nothing in a file is ever run. Machines of a cluster copy a model from a bucket once each.

    A model whose licence forbids commercial use is refused by runs until somebody has acknowledged it
    ('dr2e models accept', or models.accept in a configuration). docs/models.md has more.
    """
    context.obj = Place(open_store(store, parse_storage(storage_options)), copies_folder())


@command.command("list")
@click.option("--role", type=click.Choice(ROLES), help="Only models of this kind.")
@as_json
@click.pass_obj
def list_command(place: Place, role: str | None, as_json: bool) -> None:
    """List the models that are known by name, and those that are stored.

    \b
    dr2e models list
    dr2e models list --role enhancer
    dr2e models list --json | jq -r '.[] | select(.installed) | .name'

    Sizes and SHA-256 are those of the published files, where somebody published them; of a stored model, its own.
    """
    found = [row for row in rows(place.store) if role in (None, row.role)]
    click.echo(json.dumps([listed(row) for row in found], indent=1) if as_json else "\n".join(in_words(found)))


@command.command("show")
@click.argument("name")
@as_json
@click.pass_obj
def show(place: Place, name: str, as_json: bool) -> None:
    """Show all that is known of model NAME: files, licence, source, and whether it is stored.

    \b
    dr2e models show codeformer
    """
    row = next((row for row in rows(place.store) if row.name == _plain(name)), None)
    if row is None:
        raise _unknown(name)
    click.echo(json.dumps(listed(row), indent=1) if as_json else "\n".join(described(row)))


@command.command("pull")
@click.argument("name")
@click.option("--url", metavar="URL", help="Where else its file is; it is checked as if it came from its publisher.")
@accept
@as_json
@click.pass_obj
def pull(place: Place, name: str, url: str | None, accepted: bool, as_json: bool) -> None:
    """Download the published model NAME, check it, and store it.

    \b
    dr2e models pull gfpgan-1.4
    dr2e models pull codeformer --accept-licence
    dr2e models pull vqfr-v2 --url https://mirror.example.org/VQFR_v2.pth
    dr2e models --store s3://weights/dr2e pull gfpgan-1.4

    The same command goes on from where it was cut. Of a file whose SHA-256 is published no other is stored; of one
    whose is not, what comes first is pinned. Where a publisher has only a drive, this says where, and 'add' takes the
    file. A model that is stored is not downloaded again. Metrics (lpips, inception, arcface) are for 'dr2e evaluate':
    give its --weights the folder that 'dr2e models show' prints.
    """
    from pipeline.store.install import pull as pull_model

    known = published(name)
    if known is None:
        raise _unknown(name)
    with _bar(known.name, as_json) as shown:
        record = pull_model(place.store, known, place.copies, shown, url=url)
    _tell(place, record, accepted, as_json)


@command.command("add")
@click.argument("source", metavar="FILE|FOLDER|URL")
@click.option("--name", help="What runs call it; else the published name, or the file's.")
@click.option("--role", type=click.Choice(ROLES), help="What it must be; it is recognised anyhow.")
@click.option("--licence", help="SPDX identifier, where neither the file nor its publisher says one.")
@click.option("--size", type=click.IntRange(32, 2048), help="Prior: side of its faces in pixels.")
@click.option(
    "--attention-order", type=click.Choice(["legacy", "new"]), help="Prior: how its attention's q, k and v are packed."
)
@click.option("--schedule", type=click.Choice(["linear", "cosine"]), help="Prior: its noise schedule.")
@accept
@as_json
@click.pass_obj
def add(
    place: Place,
    source: str,
    name: str | None,
    role: Any,
    licence: str | None,
    size: int | None,
    attention_order: str | None,
    schedule: str | None,
    accepted: bool,
    as_json: bool,
) -> None:
    """Store a model of yours: a weight file, a folder in diffusers' layout, or an address.

    \b
    dr2e models add GFPGANv1.4.pth                                 # a published one is known by its SHA-256
    dr2e models add ffhq_10m.pt                                    # or by its file name, where none is published
    dr2e models add download.pt --name ffhq_10m                    # or as you say
    dr2e models add training/enhancer.safetensors --name ours --licence Apache-2.0
    dr2e models add adm.pt --name adm --size 256                   # also --attention-order, --schedule
    dr2e models add 'https://example.org/weights.pth?signature=...' --name hers

    It is read as tensors alone, recognised by their names, and loaded once as a run would; what nobody here knows to
    load is refused, and so is a file under a published name that is not the published one, or of another architecture.
    Of a folder its two configurations and its weights are stored. Addresses may be signed: neither their query nor a
    password in them is shown or recorded.
    """
    from pipeline.store.install import Told
    from pipeline.store.install import add as add_model

    settings = {"size": size, "attention": attention_order, "schedule": schedule}
    told = Told(name, role, licence, {key: value for key, value in settings.items() if value is not None})
    with _bar(name or "download", as_json) as shown:
        record = add_model(place.store, source, place.copies, shown, told, place.store.location.options)
    _tell(place, record, accepted, as_json)


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Read stored models back: is every byte as it was stored, and does it load?

    \b
    dr2e models verify                 # all
    dr2e models verify gfpgan-1.4

    Exits 0 when all is well, 1 with findings.
    """
    from pipeline.store.checking import check

    place: Place = context.obj
    found = [(name, check(place.store, name, place.copies)) for name in names or place.store.names()]
    if as_json:
        click.echo(
            json.dumps([{"name": name, "well": not trouble, "trouble": trouble} for name, trouble in found], indent=1)
        )
    else:
        for name, trouble in found:
            click.echo(f"{name}: {trouble or 'well'}")
        if not found:
            click.echo(f"{place.store.url} holds no models")
    context.exit(1 if any(trouble for _, trouble in found) else 0)


@command.command("accept")
@click.argument("name")
@click.pass_obj
def accept_command(place: Place, name: str) -> None:
    """Acknowledge that the licence of stored model NAME forbids commercial use, once for all who use the store.

    \b
    dr2e models accept codeformer
    """
    record = place.store.find(_plain(name)) if is_model_name(_plain(name)) else None
    if record is None:
        raise ModelError(
            f"{name} is not in the store {place.store.url}; store it with 'pull' or 'add' and --accept-licence"
        )
    if record.noncommercial:
        place.store.accept(record)
        click.echo(f"{record.name}: licence {record.licence} acknowledged in {place.store.url}")
    else:
        click.echo(f"{record.name}: licence {record.licence}, which needs no acknowledgement")


@command.command("convert")
@click.argument("source", metavar="NAME|FILE")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def convert(place: Place, source: str, out: Path) -> None:
    """Write a stored model or a checkpoint as safetensors: its tensors alone, under the names they had.

    \b
    dr2e models convert ffhq_10m ffhq_10m.safetensors
    dr2e models convert GFPGANv1.4.pth gfpgan.safetensors

    The header keeps what the file's own said, its architecture and licence, and the SHA-256 of what it was made of. The
    licence of the weights stays what it is.
    """
    from pipeline.store.convert import convert as convert_file
    from pipeline.store.copies import local_folder

    path, told = Path(source), {}
    if not path.exists() and is_model_name(source):
        record = place.store.find(source)
        if record is None:
            raise ModelError(
                f"{source} is no file here, and not in the store {place.store.url}; see 'dr2e models list'"
            )
        if len(record.files) != 1:
            raise ModelError(f"{source} is {len(record.files)} files; only a model of one file is converted")
        path = local_folder(place.store, record, place.copies) / record.files[0].name
        told = {"name": record.name, "licence": record.licence, "source": record.source}
    written = convert_file(path, out, told)
    click.echo(f"{out}  {written / 1e6:,.1f} MB")


@command.command("remove")
@click.argument("name")
@click.pass_obj
def remove(place: Place, name: str) -> None:
    """Remove model NAME from the store, and that its licence was acknowledged.

    \b
    dr2e models remove gfpgan-1.3

    Runs that were made with it stay as they are, and cannot be continued without it. Do not remove what a run is using.
    """
    if not is_model_name(name) or not place.store.remove(name):
        raise ModelError(f"{name} is not in the store {place.store.url}; see 'dr2e models list'")
    click.echo(f"{name} removed from {place.store.url}")


def _tell(place: Place, record: Record, accepted: bool, as_json: bool) -> None:
    """What is stored now, and what a run would say of its licence."""
    if accepted and record.noncommercial:
        place.store.accept(record)
    usable = not record.noncommercial or place.store.accepted(record.name)
    if as_json:
        click.echo(json.dumps({**record.to_json(), "accepted": usable if record.noncommercial else None}, indent=1))
        return
    click.echo(f"{record.name}: {record.architecture}, {record.size / 1e6:,.1f} MB, licence {record.licence}")
    click.echo(f"  SHA-256 {record.sha256}")
    click.echo(f"  stored in {place.store.url}")
    if not usable:
        click.echo(f"  not to be used yet: {refusal(record.name, record.licence)}")


def _plain(name: str) -> str:
    known: Published | None = published(name)
    return known.name if known else name


def _unknown(name: str) -> ModelError:
    names = ", ".join(model.name for model in CATALOGUE)
    return ModelError(f"{name} is not known; published models are {names}")


@contextmanager
def _bar(name: str, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Bytes of a download with their rate and the time left; nothing unless there is one."""
    bar: tqdm | None = None

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(
                desc=name, unit="B", unit_scale=True, unit_divisor=1000, disable=quiet, initial=done, total=total
            )
        if total != bar.total or done < bar.n:  # the next file
            bar.reset(total)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
