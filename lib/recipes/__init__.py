"""Datasets -> scores: the recipe catalogue, and one file a recipe family.

Importing this costs no torch: the families that need it load it when they train or when a model is read.
"""

from lib.recipes.popularity import POPULARITY_COUNT
from lib.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (POPULARITY_COUNT,)}
