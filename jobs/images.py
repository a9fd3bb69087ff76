"""Restoring files instead of shards: packed on the way in, unpacked on the way out."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from operators.images import IMAGE_EXTENSIONS
from pipeline.config import Config, ConfigError
from pipeline.output import Output
from pipeline.packing import find_images, pack
from pipeline.storage import Location, StorageOptions
from pipeline.unpacking import unpack

PACKED, RESTORED = "input", "restored"
"""Folders of the output: the images as shards, and the restored photos as files."""

_LISTING = "images.sha256"


def names_images(config: Config) -> bool:
    """Whether the input is images, or folders of images, and not shards. Raises ConfigError for a mixture."""
    kinds = {_is_images(text, config.storage.input) for text in config.input}
    if len(kinds) > 1:
        raise ConfigError("input: some are images and some are shards; restore them into different outputs")
    return kinds.pop()


def image_config(config: Config) -> Config:
    """The configuration that restores the packed images, which are packed now unless they are already.

    Raises ConfigError when the images are not those that this output was begun with, InputError or StorageError
    as packing does.
    """
    packed = _packed(config)
    files, _ = find_images(config.input, config.storage.input)
    listing = hashlib.sha256("".join(f"{file.name}\0{file.size}\n" for file in files).encode()).hexdigest().encode()
    recorded = packed.read_or_none(_LISTING)
    if recorded is None:
        pack(config.input, packed, options=config.storage.input)
        packed.put(_LISTING, listing)  # last: it says that packing came to its end
    elif recorded != listing:
        raise ConfigError(f"input: the images are not those that {config.output} was begun with; name a new --output")
    return _of_packed(config, packed)


def packed_config(config: Config) -> Config | None:
    """The configuration that restores the packed images; None while they are not packed."""
    packed = _packed(config)
    return _of_packed(config, packed) if packed.exists(_LISTING) else None


def holds_images(output: Output) -> bool:
    """Whether an output was made of images, not of shards."""
    return output.location.child(PACKED).exists(_LISTING)


def unpack_restored(output: Output) -> str:
    """Write the photos of a finished output as files; returns their folder."""
    folder = output.location.child(RESTORED)
    unpack(output, folder)
    return folder.url


def _packed(config: Config) -> Location:
    return Location(config.output, config.storage.output).child(PACKED)


def _of_packed(config: Config, packed: Location) -> Config:
    storage = config.storage.model_copy(update={"input": config.storage.output})
    return config.model_copy(update={"input": (packed.url,), "storage": storage})


def _is_images(text: str, options: StorageOptions) -> bool:
    suffix = PurePosixPath(text).suffix.lower()
    if suffix in IMAGE_EXTENSIONS or suffix == ".tar":
        return suffix in IMAGE_EXTENSIONS
    folder = Location(text, options)
    if folder.glob("*.tar"):  # what else lies beside shards is left alone, and may not even be listed
        return False
    return any(PurePosixPath(entry.name).suffix.lower() in IMAGE_EXTENSIONS for entry in folder.entries())
