"""What keeps a restored face: it became better, it stayed itself, and a detector agrees that it is a face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from operators.detect.align import template
from operators.quality.agreement import bordered, disagreement
from pipeline.config import Config, Keep
from pipeline.labels import NO_FACE
from pipeline.loaders import load_detector
from pipeline.records import Face, Photo
from pipeline.stages import Detect, Enhance, resized, to_unit_range
from pipeline.watchdog import beat

Verdict = tuple[dict[str, Any], tuple[str, str] | None]
"""What is measured of a face, and why it is not kept: a code and a line; None when it is."""


class DetectOrReject(Detect):
    """`Detect`, for which a photo without a face is nothing to keep."""

    def work(self, photos: Sequence[Photo]) -> None:
        super().work(photos)
        for photo in photos:
            if photo.status == "no_face":
                photo.reject(NO_FACE, "no face was found")


class EnhanceAndKeep(Enhance):
    """`Enhance`, then leave out the faces that are not to be learned from; a photo without any left is rejected.

    What was measured of a kept face is in `Face.candidates`: {"face", "gain", "fidelity", "moved"} and, on the first
    one, "left_out", the photo's other faces by reason.
    """

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        super().__init__(config, face_size, device, threads)
        self.keep = of_keeping(config)
        self.detector = load_detector(config, device)

    def work(self, photos: Sequence[Photo]) -> None:
        super().work(photos)
        verdicts = []
        for photo in photos:
            beat()
            verdicts.append([self.judge(face) for face in photo.faces])
        # Only now, when nothing can fail any more, is anything left out: the stage may be asked for the same again.
        for photo, of_faces in zip(photos, verdicts, strict=True):
            self.choose(photo, of_faces)

    def choose(self, photo: Photo, verdicts: Sequence[Verdict]) -> None:
        """Leave the photo its good faces, or reject it for what the first one lacks."""
        kept: list[Face] = []
        refusals: list[tuple[str, str]] = []
        for index, (face, (measured, refusal)) in enumerate(zip(photo.faces, verdicts, strict=True)):
            if refusal:
                refusals.append(refusal)
            else:
                face.candidates = [{"face": index, **measured}]
                kept.append(face)
        if not kept:
            photo.reject(*refusals[0])
            return
        kept[0].candidates[0]["left_out"] = dict(Counter(code for code, _ in refusals))
        photo.faces = kept

    def judge(self, face: Face) -> Verdict:
        """What is measured of a face, and why it is not kept: a code and a line; None when it is."""
        from operators.quality.fidelity import fidelity

        keep = self.keep
        if face.status != "restored" or face.image is None or face.crop is None:
            return {}, ("keep.unchanged", "it was good enough as it came, and nothing was made of it")
        if face.niqe_in is None or face.niqe_out is None:
            return {}, ("keep.unmeasured", "its NIQE cannot be measured")
        gain = face.niqe_in - face.niqe_out
        if gain < keep.gain:
            return {}, ("keep.no_gain", f"NIQE {face.niqe_in:.2f} to {face.niqe_out:.2f}, a gain under {keep.gain:g}")
        if keep.niqe is not None and face.niqe_out > keep.niqe:
            return {}, ("keep.niqe", f"its NIQE is {face.niqe_out:.2f}, over {keep.niqe:g}")
        small = resized(face.image, len(face.crop))
        same = float(fidelity(to_unit_range([small]), to_unit_range([face.crop]))[0])
        if same < keep.fidelity:
            return {}, ("keep.unfaithful", f"its fidelity to the face that came is {same:.3f}, under {keep.fidelity:g}")
        wide, border = bordered(face.image)
        (found,) = self.detector.detect([wide])
        moved = disagreement([one.landmarks - border for one in found], template(len(face.image)))
        if moved is None:
            return {}, ("keep.no_face", "no face is found in what became of it")
        if moved > keep.moved:
            return {}, ("keep.moved", f"its landmarks moved by {moved:.3f} eye distances, over {keep.moved:g}")
        return {"gain": round(gain, 4), "fidelity": round(same, 4), "moved": round(moved, 4)}, None


def of_keeping(config: Config) -> Keep:
    """The section of a run that keeps faces. Raises TypeError for another run."""
    if config.keep is None:
        raise TypeError("this stage keeps faces and needs a configuration with the section 'keep'")
    return config.keep
