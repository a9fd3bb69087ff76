"""A pair made again of what its sample holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from operators.images import decode, encode_png, to_grey
from operators.pairs.draws import Address
from operators.pairs.recipes import RecipeError, from_json
from pipeline.pairs.members import FORMAT

if TYPE_CHECKING:
    from operators.pairs.maker import PairMaker


def low_quality(sample: Mapping[str, Any], high: bytes, maker: PairMaker) -> bytes:
    """The lq.png of a pair, byte for byte as it was written, on the same kind of processor with the same libraries.

    sample: its json. high: its hq.png. maker: of the size of its lq.png; with the prior of the run where the draw is of
    "dr2", on the kind of device that the json names. Meanwhile torch takes as many threads as it names, for
    convolutions round by their number. Raises RecipeError when the json is none of a pair, ImageError when hq.png
    cannot be read.
    """
    import torch

    if sample.get("format") != FORMAT:
        raise RecipeError(f"this is no pair: its format is {sample.get('format')!r}, not {FORMAT!r}")
    try:
        address = Address(sample["seed"], sample["key"], sample["face"], sample["pair"])
        draw, grey, threads = from_json(sample["draw"]), bool(sample["grey"]), int(sample["computed"]["threads"])
    except (KeyError, TypeError) as error:
        raise RecipeError(f"this is no pair: {type(error).__name__} {error}") from None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (lows,) = maker.again([decode(high).pixels], [[address]], [[draw]])
    finally:
        torch.set_num_threads(before)
    image = lows.pairs[0].image
    return encode_png(to_grey(image) if grey else image, grey=grey)
