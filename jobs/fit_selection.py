"""``dr2e fit-selection``: fit the constants of the (N, tau) policy, and measure it against simpler choices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from jobs.training.faces import LabelledPhoto, aligned_faces, load_labelled
from jobs.training.options import data_option
from operators.degrade.classical import draw
from operators.dr2.checkpoints import load_prior
from operators.dr2.noise import FaceNoise
from operators.quality.niqe import Niqe
from operators.quality.selection import Candidate, Chain, Policy
from operators.restoration import DegradationRemover, unit_range
from operators.training.split import held_out

Pixels = NDArray[np.uint8]

LEVELS = ((None, 1), ("mild", 4), ("medium", 8), ("severe", 8), ("severe", 16))
"""Eq. 13 (severity, r) every face is degraded by; None leaves it clean."""

PRICES = (0.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0)
ENOUGH = (2.75, 3.0, 3.25, 3.5, 4.0, 4.5)
"""Constants that are tried; at price 0 the policy is a plain argmin of NIQE."""

GENERATIVE = Chain(n=8, omega=60, taus=(4, 8, 16, 24, 35))
"""What the policy never runs and the baselines do: the corner that plain argmin of NIQE likes, and N = 8, tau = 350."""


@dataclass(frozen=True)
class Quality:
    """Agreement with the undegraded face: PSNR in dB (100 for equal images) and SSIM."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Trial:
    """One degraded face: its NIQE, and every candidate of every chain with how good it is."""

    level: str
    niqe: float
    untouched: Quality
    candidates: dict[Chain, list[tuple[Candidate, Quality]]]


@dataclass(frozen=True)
class Outcome:
    """What a rule did to one trial. evaluations: of the U-Net."""

    quality: Quality
    kept: bool
    evaluations: int


@click.command("fit-selection")
@data_option
@click.option("--faces", default=24, show_default=True, help="Faces to fit on, and as many held-out ones to measure.")
@click.option("--prior", default="builtin", show_default=True, help="The prior whose candidates are chosen from.")
@click.option("--niqe", default="builtin", show_default=True, help="The NIQE model that scores them.")
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="Write what was measured here, Markdown.")
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--storage-options", default="{}", help="JSON passed to fsspec for s3:// and the like.")
def command(
    data: tuple[str, ...],
    faces: int,
    prior: str,
    niqe: str,
    card: Path | None,
    threads: int,
    device: str,
    storage_options: str,
) -> None:
    """Search the policy's constants on some faces and print how it does on others.

    Prints the constants to put into `operators.quality.selection.Policy`, and a table per level of degradation.
    """
    torch.set_num_threads(threads)
    remover = DegradationRemover(load_prior(prior, device=device), Niqe.load(niqe))
    to_fit, to_measure = pick(load_labelled(data, json.loads(storage_options)), faces)
    fitted = fit(trials(to_fit, remover, Policy().chains), remover.cost)
    click.echo(f"natural = {fitted.natural}, price = {fitted.price}, enough = {fitted.enough}")
    measured = table(trials(to_measure, remover, [*Policy().chains, GENERATIVE]), fitted, remover.cost)
    click.echo(measured)
    if card is not None:
        card.write_text(description(fitted, len(to_measure), measured), encoding="utf-8")


def pick(photos: Iterable[LabelledPhoto], count: int) -> tuple[list[LabelledPhoto], list[LabelledPhoto]]:
    """`count` faces to fit on and `count` held-out ones, picked by the hash of their key; holds few at a time."""
    picked: dict[bool, list[LabelledPhoto]] = {False: [], True: []}
    for photo in photos:
        if photo.landmarks is not None:
            side = held_out(photo.key)
            picked[side] = sorted([*picked[side], photo], key=lambda photo: sha256(photo.key.encode()).digest())[:count]
    return picked[False], picked[True]


def trials(photos: Sequence[LabelledPhoto], remover: DegradationRemover, chains: Sequence[Chain]) -> list[Trial]:
    """Degrades every face at every level, and runs every one of the chains on it."""
    keys, faces = aligned_faces(photos, remover.prior.size)
    found: list[Trial] = []
    for severity, r in LEVELS:
        rngs = [np.random.default_rng([position, r]) for position in range(len(faces))]
        size = remover.prior.size
        degraded = [
            face if severity is None else draw(severity, r, rng, size).apply(face, rng)
            for face, rng in zip(faces, rngs, strict=True)
        ]
        for start in range(0, len(faces), remover.batch):
            batch = slice(start, start + remover.batch)
            noise = [FaceNoise(remover.seed, key, 0) for key in keys[batch]]
            ran = {chain: remover.candidates(chain, degraded[batch], noise) for chain in chains}
            scores = remover.niqe.score(unit_range(degraded[batch]))
            for i, (score, crop, truth) in enumerate(zip(scores, degraded[batch], faces[batch], strict=True)):
                candidates = {
                    chain: [(candidate, quality(image, truth)) for candidate, image in of_faces[i]]
                    for chain, of_faces in ran.items()
                }
                level = "clean" if severity is None else f"{severity} {r}"
                found.append(Trial(level, float(score), quality(crop, truth), candidates))
    return found


def quality(image: Pixels, truth: Pixels) -> Quality:
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    ssim = structural_similarity(image, truth, channel_axis=2, gaussian_weights=True, use_sample_covariance=False)
    return Quality(100.0 if error == 0 else 10 * np.log10(255**2 / error), float(ssim))


def follow(policy: Policy, trial: Trial, cost: Callable[[Chain], int]) -> Outcome:
    """What the policy makes of a trial: it sees only the chains it asks for."""
    seen: dict[Candidate, Quality] = {}
    evaluations = 0
    while (chain := policy.next_chain(trial.niqe, list(seen))) is not None:
        seen.update(trial.candidates[chain])
        evaluations += cost(chain)
    chosen = policy.choose(trial.niqe, list(seen)).candidate
    return Outcome(trial.untouched if chosen is None else seen[chosen], chosen is None, evaluations)


def fit(trials: Sequence[Trial], cost: Callable[[Chain], int]) -> Policy:
    """Fits `natural`, the NIQE that 95 % of clean faces stay below, then the constants with the highest mean SSIM."""
    clean = [trial.niqe for trial in trials if trial.level == "clean"]
    base = replace(Policy(), natural=round(float(np.percentile(clean, 95)), 2))
    degraded = [trial for trial in trials if trial.level != "clean"]

    def mean_ssim(policy: Policy) -> float:
        return float(np.mean([follow(policy, trial, cost).quality.ssim for trial in degraded]))

    return max((replace(base, price=price, enough=enough) for price, enough in product(PRICES, ENOUGH)), key=mean_ssim)


def argmin_niqe(trial: Trial) -> Quality:
    """The trap: whatever candidate has the lowest NIQE."""
    return min(_all(trial), key=lambda pair: pair[0].niqe)[1]


def fixed(trial: Trial, n: int, tau: int) -> Quality:
    """Always the same (N, tau); tau as a step."""
    return next(quality for candidate, quality in _all(trial) if (candidate.n, candidate.tau) == (n, tau))


def oracle(trial: Trial) -> Quality:
    """The candidate with the highest SSIM, which takes the undegraded face to know."""
    return max((quality for _, quality in _all(trial)), key=lambda quality: quality.ssim)


def _all(trial: Trial) -> list[tuple[Candidate, Quality]]:
    return [pair for pairs in trial.candidates.values() for pair in pairs]


def table(trials: Sequence[Trial], policy: Policy, cost: Callable[[Chain], int]) -> str:
    """Means per level and rule, Markdown."""
    lines = [
        "| level | rule | PSNR | SSIM | evaluations | kept |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    full = sum(cost(chain) for chain in [*policy.chains, GENERATIVE])
    paper = cost(replace(GENERATIVE, taus=(35,)))
    levels = list(dict.fromkeys(trial.level for trial in trials))
    for level in [*levels, "all degraded"]:
        everything = level == "all degraded"
        chosen = [trial for trial in trials if (trial.level != "clean" if everything else trial.level == level)]
        rules: dict[str, list[Outcome]] = {
            "input": [Outcome(trial.untouched, True, 0) for trial in chosen],
            "argmin NIQE": [Outcome(argmin_niqe(trial), False, full) for trial in chosen],
            "N = 8, tau = 350": [Outcome(fixed(trial, 8, 35), False, paper) for trial in chosen],
            "policy": [follow(policy, trial, cost) for trial in chosen],
            "oracle of SSIM": [Outcome(oracle(trial), False, full) for trial in chosen],
        }
        lines += [row(level, rule, outcomes) for rule, outcomes in rules.items()]
    return "\n".join(lines)


def row(level: str, rule: str, outcomes: Sequence[Outcome]) -> str:
    psnr, ssim, evaluations, kept = np.mean(
        [(o.quality.psnr, o.quality.ssim, o.evaluations, o.kept) for o in outcomes], axis=0
    )
    return f"| {level} | {rule} | {psnr:.2f} | {ssim:.3f} | {evaluations:.0f} | {kept:.0%} |"


def description(policy: Policy, faces: int, measured: str) -> str:
    """The card of the policy's constants, Markdown."""
    return f"""# Choosing (N, tau)

Constants of `operators.quality.selection.Policy`, fitted by jobs/fit_selection.py to the built-in prior and NIQE
model: natural = {policy.natural}, price = {policy.price:g}, enough = {policy.enough:g}.

Measured on {faces} held-out faces at each level (clean, and Eq. 13 of DR2E at severity and r stated at 512 px) against
the undegraded face at the prior's size; means. Evaluations are of the U-Net, per face. "argmin NIQE" and "oracle of
SSIM" choose among the policy's candidates and those of N = {GENERATIVE.n} down to tau = {10 * min(GENERATIVE.taus)}.

{measured}

PSNR and SSIM favour a soft face over a sharp invented one: they say whether the person was kept, not how good the
result looks.
"""
