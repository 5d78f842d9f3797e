"""Datasets -> scores: the recipe catalogue, and one file a recipe family.

Importing this costs no torch: the families that need it load it when they train or when a model is read.
"""

from lib.recipes.actions import NEXT_BEST_ACTION
from lib.recipes.affinity import ITEM_AFFINITY, ITEM_ATTRIBUTE_AFFINITY
from lib.recipes.neighbours import SIMILAR_ITEMS, SIMS
from lib.recipes.popularity import POPULARITY_COUNT
from lib.recipes.recipe import Recipe
from lib.recipes.recurrent import HRNN, HRNN_COLDSTART, HRNN_METADATA, PERSONALIZED_RANKING, USER_PERSONALIZATION
from lib.recipes.semantic import SEMANTIC_SIMILARITY
from lib.recipes.sequential import PERSONALIZED_RANKING_V2, USER_PERSONALIZATION_V2
from lib.recipes.trending import TRENDING_NOW

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        USER_PERSONALIZATION_V2,
        USER_PERSONALIZATION,
        PERSONALIZED_RANKING_V2,
        PERSONALIZED_RANKING,
        SIMILAR_ITEMS,
        SIMS,
        SEMANTIC_SIMILARITY,
        POPULARITY_COUNT,
        TRENDING_NOW,
        NEXT_BEST_ACTION,
        ITEM_AFFINITY,
        ITEM_ATTRIBUTE_AFFINITY,
        HRNN,
        HRNN_METADATA,
        HRNN_COLDSTART,
    )
}
