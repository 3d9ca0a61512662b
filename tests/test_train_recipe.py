"""Recipes of training: those that travel, and those that are none."""

import dataclasses
import math

import pytest

from refvit.models import parameter_shapes
from refvit.train_recipe import TrainRecipe, read_recipe, recipe_names

RECIPE = TrainRecipe(images=8 * 6, batch=8, warmup=2, ema=0.5, augment="flip cutmix=0.5")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_travels_is_one(name):
    about = read_recipe(name)
    if name == "qat":  # it goes on from any model
        with pytest.raises(ValueError, match="is for training that learns from a teacher"):
            TrainRecipe(**about)
        about |= {"start": "nano_vit", "qat": "w4a4"}
    recipe = TrainRecipe(**about)
    assert name in (recipe.model, "qat")
    assert recipe.config.classes == len(recipe.class_names)
    assert sum(math.prod(s) for s in parameter_shapes(recipe.config).values()) < 1_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates = 0.1", "a recipe has no 'rates', perhaps rate"),
        ('rate = "fast"', "rate is a float, got 'fast'"),
        ("images = 1.5", "images is a int, got 1.5"),
        ("model = ", "is not TOML"),
    ],
)
def test_a_recipe_that_is_none_says_why(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(str(tmp_path / "r.toml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": "spin"}, "no augmentation 'spin'; there are flip"),
        ({"augment": "shift=far"}, "wants a number"),
        ({"distill": "firm"}, "distill one of hard, soft"),
        ({"model": "fashion_vit"}, "reads other"),
        ({"temperature": 0.0}, "temperature is above 0"),
        ({"alpha": 0.9}, "alpha 0.9 is for training that learns from a teacher"),
        ({"teacher": "nano_swin", "temperature": 9.0}, "is for training that distils softly"),
        ({"labels": "a|b"}, "labels 'a|b' is for training that reads IDX files"),
        ({"data": "idx", "model": "fashion_vit", "difficulty": 0.9}, "draws shapes10"),
    ],
)
def test_impossible_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)
    with pytest.raises(FileNotFoundError, match=r"no recipe 'nano': .* by name: .*nano_vit"):
        read_recipe("nano")
