"""Training pairs: each a function of its address, made again of plain values, and DR2's all from one trajectory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from priors import untrained
from scipy import ndimage

from operators.dr2.prior import Prior
from operators.pairs.draws import Address
from operators.pairs.maker import PairMaker
from operators.pairs.recipes import ClassicalRecipe, Dr2, Dr2Recipe, Mixture, RecipeError, from_json, to_json

SIZE = 32
ALL = Mixture({"dr2": 0.5, "classical": 0.25, "second-order": 0.25})
IDENTITIES = [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("d", 0)]


@pytest.fixture(scope="module")
def prior() -> Prior:
    return untrained(SIZE, 8, max_timestep=450)


def faces(count: int, size: int = 2 * SIZE) -> list[np.ndarray]:
    soft = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((count, size, size, 3)), (0, 3, 3, 0))
    return list(np.clip(128 + 40 * soft / soft.std(), 0, 255).astype(np.uint8))


def test_a_pair_is_the_same_alone_beside_others_and_with_more_of_its_face(prior: Prior) -> None:
    photos = faces(len(IDENTITIES))
    together = PairMaker(SIZE, prior, seed=3).make(photos, IDENTITIES, ALL, 4)
    for place, identity in enumerate(IDENTITIES):
        (alone,) = PairMaker(SIZE, prior, seed=3, batch=1).make([photos[place]], [identity], ALL, 2)
        for few, many in zip(alone.pairs, together[place].pairs, strict=False):
            assert few.draw == many.draw and np.array_equal(few.image, many.image)
    images = {low.image.tobytes() for lows in together for low in lows.pairs}
    assert len(images) == 4 * len(IDENTITIES)  # and every one is another
    (other,) = PairMaker(SIZE, prior, seed=4).make(photos[:1], IDENTITIES[:1], ALL, 4)
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(other.pairs, together[0].pairs, strict=True))


def test_a_pair_is_made_again_of_its_json(prior: Prior) -> None:
    photos = faces(3)
    maker = PairMaker(SIZE, prior, seed=3)
    made = maker.make(photos, IDENTITIES[:3], ALL, 4)
    kinds = set()
    for photo, (key, face), lows in zip(photos, IDENTITIES, made, strict=False):
        for pair, low in enumerate(lows.pairs):
            written = json.loads(json.dumps(to_json(low.draw)))
            kinds.add(written["recipe"])
            (again,) = PairMaker(SIZE, prior).again([photo], [[Address(3, key, face, pair)]], [[from_json(written)]])
            assert np.array_equal(again.pairs[0].image, low.image) and again.pairs[0].draw == low.draw
    assert kinds == {"dr2", "classical", "second-order"}


def test_four_pairs_of_a_face_cost_little_more_than_one(prior: Prior) -> None:
    photos, identities = faces(1) * 60, [(f"face {i}", 0) for i in range(60)]
    maker = PairMaker(SIZE, prior, batch=16)
    spent = {}
    for pairs in (1, 4):
        before = maker.engine.evaluations if maker.engine else 0
        made = maker.make(photos, identities, Mixture.parse("dr2"), pairs)
        spent[pairs] = sum(lows.evaluations for lows in made)
        assert maker.engine and maker.engine.evaluations - before == spent[pairs]  # what is said is what was done
    assert spent[4] <= 1.3 * spent[1]


def test_dr2s_blur_is_that_of_its_sigma(prior: Prior) -> None:
    (photo,), address = faces(1), Address(0, "a", 0, 0)
    draw = Dr2Recipe().draw(np.random.default_rng(0), SIZE)
    maker = PairMaker(SIZE, prior)
    sharp, soft, softer = (
        maker.again([photo], [[address]], [[replace(draw, sigma=sigma)]])[0].pairs[0].image.astype(float)
        for sigma in (0.0, 16.0, 80.0)
    )
    assert np.abs(ndimage.gaussian_filter(sharp, (1, 1, 0), truncate=4.0) - soft).mean() < 0.6  # 16 px of 512 at 32
    assert sharp.std() > soft.std() > softer.std()


def test_other_recipes_need_no_prior_and_dr2_says_it_does() -> None:
    photos = faces(1)
    made = PairMaker(SIZE).make(photos, [("a", 0)], Mixture.parse("classical,second-order"), 3)
    assert made[0].evaluations == 0 and all(low.image.shape == (SIZE, SIZE, 3) for low in made[0].pairs)
    with pytest.raises(RecipeError, match="needs a prior"):
        PairMaker(SIZE).make(photos, [("a", 0)], Mixture.parse("dr2"), 1)


def test_a_mixture_has_the_shares_asked_for() -> None:
    mixture = Mixture.parse("dr2=2, classical=1,second-order=1")
    drawn = [to_json(mixture.draw(Address(0, f"k{i}", 0, 0), SIZE))["recipe"] for i in range(800)]
    assert drawn.count("dr2") / 800 == pytest.approx(0.5, abs=0.05)
    assert drawn.count("classical") / 800 == pytest.approx(0.25, abs=0.05)


def test_eq_12s_draws_are_the_published_ones() -> None:
    recipe = Dr2Recipe()
    drawn = [recipe.draw(np.random.default_rng(i), SIZE) for i in range(400)]
    assert {draw.n for draw in drawn} == {4} and {draw.tau for draw in drawn} == {50, 100, 150, 200}
    assert all(1 <= draw.sigma <= 7 for draw in drawn)
    assert Dr2(4, 50, 4.0, (50,), 40).sigma_at(256) == 2.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dr3", "unknown recipe 'dr3'; one of dr2, classical, second-order"),
        ("dr2=x", "write it as NAME=WEIGHT"),
        ("dr2=-1", "weights must be positive"),
        ("dr2=0", "weights must be positive"),
    ],
)
def test_a_wrong_mixture_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        Mixture.parse(text)


@pytest.mark.parametrize("recipe", [{"taus": (55,)}, {"taus": ()}, {"stride": 15}, {"stride": 0}])
def test_a_dr2_recipe_out_of_step_is_refused(recipe: dict) -> None:
    with pytest.raises(RecipeError, match="multiple"):
        Dr2Recipe(**recipe)


def test_an_unknown_severity_and_a_draw_that_is_none_are_refused() -> None:
    with pytest.raises(RecipeError, match="unknown severity"):
        ClassicalRecipe("terrible").draw(np.random.default_rng(0), SIZE)
    for data in ({"recipe": "dr2"}, {"recipe": "x"}, {}, {"recipe": "classical", "r": 1}):
        with pytest.raises(RecipeError):
            from_json(data)
