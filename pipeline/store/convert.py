"""Any checkpoint that is known, as safetensors: its tensors alone, under the names they had."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from pipeline.store.catalogue import by_sha256
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError, files_named
from pipeline.store.licences import strictest
from pipeline.store.recognise import header_of, recognise


def convert(path: Path, out: Path, told: Mapping[str, str] | None = None) -> int:
    """Write the network of a checkpoint as safetensors; bytes that were written.

    told: goes into the header, beside what the file's own header says, the architecture, the licence where it is known,
    and the SHA-256 of the file it is of. Raises ModelError for a file that nobody knows to load, and for an `out` that
    is there.
    """
    from safetensors.torch import save_file

    from operators.weights.reading import read_state

    if out.suffix != ".safetensors":
        raise ModelError(f"{out}: name a file that ends in .safetensors")
    if out.exists():
        raise ModelError(f"{out} is there; name another file, or remove it")
    with files_named(path):
        found, sha256 = recognise(path), sha256_of(path)
    told, header = told or {}, header_of(path)
    known = by_sha256(sha256)
    metadata = {"format": "pt", "architecture": found.architecture, "sha256_of_source": sha256, **told, **header}
    licence = strictest((known.licence if known else None, header.get("licence"), told.get("licence"), found.licence))
    metadata |= {"licence": licence} if licence else {}
    state = {name: value.contiguous().clone() for name, value in read_state(path).items()}
    beside = out.with_name(f".{secrets.token_hex(8)}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, str(beside), metadata=metadata)
        beside.chmod(0o666 & ~_umask())
        beside.rename(out)
    except OSError as error:
        raise ModelError(f"{out}: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
    return out.stat().st_size


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
