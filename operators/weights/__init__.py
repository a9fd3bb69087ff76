"""The built-in models (safetensors, a few MB together) and their model cards."""

from __future__ import annotations

from pathlib import Path

from operators.training.weights import WeightsError


def builtin(name: str) -> Path:
    """Path of the built-in weights ``name`` ("prior", "enhancer", "detector", "niqe", "policy").

    Raises WeightsError when the installation lacks the file.
    """
    path = Path(__file__).parent / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(f"built-in weights are missing: {path}; reinstall dr2e or train them with 'dr2e train'")
    return path


def resolve(source: str, name: str) -> Path:
    """``"builtin"`` becomes the path of the built-in ``name``; anything else is a path of the user's."""
    return builtin(name) if source == "builtin" else Path(source)
