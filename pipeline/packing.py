"""Files to shards: the images of folders and buckets, in WebDataset tars of bounded size.

The same files give the same shards, byte for byte; packing again after an interruption completes them.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from operators.images import IMAGE_EXTENSIONS
from pipeline.filenames import SOURCE, keys_of, source_member
from pipeline.inputs import InputError
from pipeline.names import is_noise
from pipeline.storage import Location, StorageOptions
from pipeline.tar import write_shard

MAX_SAMPLES = 1024
MAX_BYTES = 512 * 2**20


@dataclass(frozen=True)
class SourceFile:
    """An image to pack: where it lies, its name there, its bytes."""

    location: Location
    name: str
    size: int


@dataclass(frozen=True)
class Packed:
    """What `pack` did. skipped: files that are no images by their names, counted by extension."""

    shards: tuple[str, ...]
    photos: int
    bytes: int
    skipped: dict[str, int]


def pack(
    inputs: str | Path | Sequence[str | Path],
    output: Location,
    *,
    options: StorageOptions | None = None,
    prefix: str = "photos",
    max_samples: int = MAX_SAMPLES,
    max_bytes: int = MAX_BYTES,
    on_photo: Callable[[SourceFile], None] | None = None,
) -> Packed:
    """Pack the images that `inputs` name into shards PREFIX-000000.tar, ... below `output`.

    inputs: image files, or folders and bucket prefixes to search at any depth. A sample is the file as it is,
    under the key that filenames.py gives its name relative to the folder, and KEY.source.json with that name.
    max_samples, max_bytes: bounds of a shard; a file above max_bytes has a shard to itself.
    on_photo: called as each file is read, for progress.

    Raises InputError when there is nothing to pack, two files have one name, or `output` holds shards of
    something else; StorageError when storage refuses.
    """
    files, skipped = find_images(inputs, options)
    keys = keys_of(file.name for file in files)
    groups = list(cut(files, max_samples, max_bytes))
    names = [f"{prefix}-{number:06d}.tar" for number in range(len(groups))]
    strangers = sorted({entry.name for entry in output.glob("*.tar")} - set(names))
    if strangers:
        raise InputError(f"{output.url} already holds other shards ({strangers[0]}); pack into an empty place")

    def members(group: Sequence[SourceFile]) -> Iterator[tuple[str, bytes]]:
        for file in group:
            key = keys[file.name]
            yield f"{key}{PurePosixPath(file.name).suffix.lower()}", file.location.read(file.name)
            yield f"{key}.{SOURCE}", source_member(file.name)
            if on_photo is not None:
                on_photo(file)

    written = 0
    with tempfile.TemporaryDirectory(prefix="dr2e-pack-") as folder:
        for name, group in zip(names, groups, strict=True):
            shard = Path(folder) / name
            write_shard(shard, members(group))
            output.put(name, shard)
            written += shard.stat().st_size
            shard.unlink()
    return Packed(tuple(names), len(files), written, skipped)


def find_images(
    inputs: str | Path | Sequence[str | Path], options: StorageOptions | None = None
) -> tuple[list[SourceFile], dict[str, int]]:
    """The images that `inputs` name, sorted by name, and how many other files by extension were left out.

    Raises InputError as `pack` does.
    """
    found: dict[str, SourceFile] = {}
    skipped: Counter[str] = Counter()
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    for text in given:
        for file in _files(str(text), options):
            extension = PurePosixPath(file.name).suffix.lower()
            if is_noise(file.name):
                continue
            if extension not in IMAGE_EXTENSIONS:
                skipped[extension or "no extension"] += 1
                continue
            other = found.setdefault(file.name, file)
            if other.location.url != file.location.url:
                raise InputError(
                    f"two files are both called {file.name}: in {other.location.url} and {file.location.url}; "
                    "pack a common folder of theirs instead"
                )
    if not found:
        raise InputError(
            f"{', '.join(map(str, given))}: no images here; known are {', '.join(sorted(IMAGE_EXTENSIONS))}"
        )
    return [found[name] for name in sorted(found)], dict(sorted(skipped.items()))


def cut(files: Sequence[SourceFile], max_samples: int, max_bytes: int) -> Iterator[list[SourceFile]]:
    """Cut `files` in order into groups of at most `max_samples` files and, but for single ones, `max_bytes`."""
    group: list[SourceFile] = []
    size = 0
    for file in files:
        if group and (len(group) == max_samples or size + file.size > max_bytes):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


def _files(text: str, options: StorageOptions | None) -> Iterator[SourceFile]:
    """The files below `text`, or the one that it names."""
    whole = Location(text, options)
    folder, _, name = whole.url.rpartition("/")
    if name and not folder.endswith("/"):
        parent = Location(folder or "/", options)
        entry = parent.stat(name)
        if entry is not None:
            yield SourceFile(parent, name, entry.size)
            return
    for entry in whole.entries():
        yield SourceFile(whole, entry.name, entry.size)
