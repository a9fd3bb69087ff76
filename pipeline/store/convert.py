"""Any checkpoint that is known, as safetensors: its tensors alone, under the names they had."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.recognise import recognise


def convert(path: Path, out: Path, told: Mapping[str, str] | None = None) -> int:
    """Write the network of a checkpoint as safetensors; bytes that were written.

    told: goes into the header, beside what the file's own header says, the architecture, and the SHA-256 of the file
    it is of. Raises ModelError for a file that nobody knows to load, and for an `out` that is there.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    from operators.weights.reading import read_state

    if out.suffix != ".safetensors":
        raise ModelError(f"{out}: name a file that ends in .safetensors")
    if out.exists():
        raise ModelError(f"{out} is there; name another file, or remove it")
    found = recognise(path)
    metadata = {"format": "pt", "architecture": found.architecture, "sha256_of_source": sha256_of(path), **(told or {})}
    if path.suffix == ".safetensors":
        with safe_open(str(path), framework="pt") as file:
            metadata |= file.metadata() or {}
    state = {name: value.contiguous().clone() for name, value in read_state(path).items()}
    beside = out.with_name(f".{secrets.token_hex(8)}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
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
