"""Recipes: ways to make a good face bad. A draw of one is plain values, of which the same pair can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from operators.degrade.blur import ENHANCER_SIGMA, REFERENCE_SIZE
from operators.degrade.classical import DOWNSAMPLING, Classical, draw, draw_any
from operators.degrade.second_order import SecondOrder, draw_second_order
from operators.pairs.draws import Address

EQ12_TAUS = (50, 100, 150, 200)
"""Eq. 12: tau in timesteps of the schedule the prior was trained with, at N = 4."""


class RecipeError(ValueError):
    """A recipe is unknown or out of range, or a draw is none. One line."""


class Degradation(Protocol):
    """A draw that needs no network. apply: (S, S, 3) uint8 -> the same size; `rng` draws the noise alone."""

    def apply(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Dr2:
    """One draw of Eq. 12 (DR2E, arXiv 2303.06885): y = DR2(x; n, tau) * k_sigma.

    n: low-pass scale. tau: output timestep of T = 1000. sigma: pixels at 512 px; the face's own size scales it.
    taus, stride: what fixes the trajectory on which tau is one of several outputs: every timestep that may be asked
    for, and the timesteps from one evaluation of the network to the next.
    """

    n: int
    tau: int
    sigma: float
    taus: tuple[int, ...]
    stride: int

    def sigma_at(self, size: int) -> float:
        """Of k_sigma in pixels of a face of `size` px."""
        return self.sigma * size / REFERENCE_SIZE


Draw = Dr2 | Classical | SecondOrder


@dataclass(frozen=True)
class Dr2Recipe:
    """Eq. 12. n, taus as published; sigma: range, pixels at 512 px; stride: timesteps between evaluations, a multiple
    of 10 (40 as in a restoration; 10 as published)."""

    n: int = 4
    taus: tuple[int, ...] = EQ12_TAUS
    sigma: tuple[float, float] = ENHANCER_SIGMA
    stride: int = 40

    def __post_init__(self) -> None:
        if not self.taus or any(tau < 0 or tau % 10 for tau in self.taus):
            raise RecipeError(f"dr2: taus are multiples of 10 timesteps, not {list(self.taus)}")
        if self.stride < 10 or self.stride % 10:
            raise RecipeError(f"dr2: the stride is a multiple of 10 timesteps, not {self.stride}")

    def draw(self, rng: np.random.Generator, size: int) -> Dr2:
        """size: of the good face, pixels; decides nothing here."""
        tau, sigma = self.taus[int(rng.integers(len(self.taus)))], float(rng.uniform(*self.sigma))
        return Dr2(self.n, tau, sigma, self.taus, self.stride)


@dataclass(frozen=True)
class ClassicalRecipe:
    """Eq. 13. severity: "mild", "medium", "severe" or "any"; r: downsampling at 512 px, drawn from these, or from all
    between them when severity is "any"."""

    severity: str = "any"
    r: tuple[int, ...] = DOWNSAMPLING

    def draw(self, rng: np.random.Generator, size: int) -> Classical:
        """size: of the good face, pixels. Raises RecipeError for an unknown severity."""
        if self.severity == "any":
            return draw_any(rng, size)
        try:
            return draw(self.severity, self.r[int(rng.integers(len(self.r)))], rng, size)
        except ValueError as error:
            raise RecipeError(f"classical: {error}") from None


@dataclass(frozen=True)
class SecondOrderRecipe:
    """Blur, resize, noise, JPEG, twice; see `operators.degrade.second_order`."""

    def draw(self, rng: np.random.Generator, size: int) -> SecondOrder:
        """size: of the good face, pixels; decides nothing."""
        return draw_second_order(rng)


Recipe = Dr2Recipe | ClassicalRecipe | SecondOrderRecipe
RECIPES: dict[str, type[Recipe]] = {"dr2": Dr2Recipe, "classical": ClassicalRecipe, "second-order": SecondOrderRecipe}

_DRAWS: dict[str, type[Draw]] = {"dr2": Dr2, "classical": Classical, "second-order": SecondOrder}


@dataclass(frozen=True)
class Mixture:
    """Recipes by name, each with its share of the pairs. weights: need not sum to 1. Raises RecipeError."""

    weights: Mapping[str, float]
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(RECIPES)):
            raise RecipeError(f"unknown recipe {unknown[0]!r}; one of {', '.join(RECIPES)}")
        if not self.weights or min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise RecipeError(f"weights must be positive, got {dict(self.weights)}")

    @classmethod
    def parse(cls, text: str) -> Mixture:
        """Of "dr2", or "dr2=0.7,classical=0.2,second-order=0.1". Raises RecipeError."""
        weights: dict[str, float] = {}
        for part in text.split(","):
            name, separator, weight = part.strip().partition("=")
            try:
                weights[name] = weights.get(name, 0.0) + (float(weight) if separator else 1.0)
            except ValueError:
                raise RecipeError(f"recipe {part.strip()!r}: write it as NAME=WEIGHT, such as dr2=0.7") from None
        return cls(weights)

    def recipe(self, name: str) -> Recipe:
        """The recipe called `name`, with its defaults unless it was given."""
        return self.recipes.get(name) or RECIPES[name]()

    def draw(self, address: Address, size: int) -> Draw:
        """What befalls a pair; a function of the address. size: of the good face, pixels."""
        names = sorted(self.weights)
        shares = np.array([self.weights[name] for name in names])
        name = names[int(address.rng("recipe").choice(len(names), p=shares / shares.sum()))]
        return self.recipe(name).draw(address.rng("parameters"), size)


def to_json(draw: Draw) -> dict[str, Any]:
    """Plain values, with the recipe's name under "recipe"; `from_json` makes the same draw of them."""
    return {"recipe": next(name for name, kind in _DRAWS.items() if isinstance(draw, kind)), **asdict(draw)}


def from_json(data: Mapping[str, Any]) -> Draw:
    """The inverse of `to_json`. Raises RecipeError."""
    values = {name: value for name, value in data.items() if name != "recipe"}
    try:
        match data["recipe"]:
            case "dr2":
                return Dr2(**{**values, "taus": tuple(values["taus"])})
            case "classical":
                return Classical(**values)
            case "second-order":
                return SecondOrder.from_json(values)
            case other:
                raise RecipeError(f"unknown recipe {other!r}; one of {', '.join(RECIPES)}")
    except (KeyError, TypeError) as error:
        raise RecipeError(f"this is no draw of a recipe ({type(error).__name__}: {error})") from None
