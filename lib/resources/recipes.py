"""What Personalize comes with: recipes, their algorithms and feature transformations, all declared in ``RECIPES``.

The use cases of domains are recipes too, but only recommenders can be made of them.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lib.recipes import RECIPES
from lib.recipes.recipe import HyperParameter, Recipe, Value
from lib.recipes.use_cases import USE_CASES, UseCase
from lib.resources import records
from lib.resources.account import SERVICE_ARN, Account
from lib.resources.errors import InvalidInputException, ResourceNotFoundException

EXPLORES_BY_ITSELF = "aws-user-personalization-v2"  # as much as the service thinks right
CREATED = datetime(2019, 6, 10, tzinfo=UTC)  # when Amazon Personalize was opened to everybody


def of_arn(recipe_arn: str) -> Recipe:
    """The recipe with an ARN.  Raises ResourceNotFoundException, or InvalidInputException for a use case."""
    recipe = RECIPES.get(_name(recipe_arn))
    if _name(recipe_arn) in USE_CASES:
        raise InvalidInputException(
            f"{recipe_arn} is a use case, for recommenders alone: a solution can have {', '.join(RECIPES)}."
        )
    if recipe is None:
        raise ResourceNotFoundException(
            f"The given recipe does not exist: {recipe_arn}. This version has {', '.join(RECIPES)}."
        )
    return recipe


def use_case(recipe_arn: str) -> UseCase:
    """The domain's use case with an ARN.  Raises ResourceNotFoundException, or InvalidInputException for a recipe."""
    found = USE_CASES.get(_name(recipe_arn))
    if _name(recipe_arn) in RECIPES:
        raise InvalidInputException(
            f"{recipe_arn} is a recipe, for solutions alone: a recommender can have {', '.join(USE_CASES)}."
        )
    if found is None:
        raise ResourceNotFoundException(
            f"The given recipe does not exist: {recipe_arn}. The use cases are {', '.join(USE_CASES)}."
        )
    return found


def of_use_case(case: UseCase) -> Recipe:
    """The recipe that a recommender trains and asks; its answers carry no scores."""
    base = RECIPES[case.base]
    return replace(base, name=case.name, description=case.description, scored=False, explores=case.explores)


def arn_of(recipe: Recipe | UseCase) -> str:
    """The recipe's ARN."""
    return f"{SERVICE_ARN}recipe/{recipe.name}"


def describe_recipe(account: Account, *, recipe_arn: str) -> dict[str, Any]:
    """What a recipe is for, and the ARNs of its algorithm and feature transformation."""
    case = USE_CASES.get(_name(recipe_arn))
    recipe = of_arn(recipe_arn) if case is None else RECIPES[case.base]
    described = {name: value for name, value in _summary(case or recipe).items() if name != "domain"}
    return {
        "recipe": {
            **described,
            "algorithmArn": f"{SERVICE_ARN}algorithm/{recipe.algorithm}",
            "featureTransformationArn": f"{SERVICE_ARN}feature-transformation/{recipe.feature_transformation}",
            "description": (case or recipe).description,
            "recipeType": recipe.recipe_type,
        }
    }


def list_recipes(
    account: Account,
    *,
    recipe_provider: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
    domain: str | None = None,
) -> dict[str, Any]:
    """All recipes for custom solutions, in the order of the catalogue; of a domain, its use cases.

    Asked for no number, Amazon gives a nextToken with the first page even where nothing more follows.
    """
    found = [case for case in USE_CASES.values() if case.domain == domain] if domain else list(RECIPES.values())
    start = records.token_position(f"recipes|{domain}", next_token) if next_token else 0
    end = start + (max_results or records.PAGE)
    answer: dict[str, Any] = {"recipes": [_summary(recipe) for recipe in found[start:end]]}
    if end < len(found) or (max_results is None and not start):
        answer["nextToken"] = records.token(f"recipes|{domain}", end)
    return answer


def describe_algorithm(account: Account, *, algorithm_arn: str) -> dict[str, Any]:
    """An algorithm's hyperparameters, their defaults and ranges."""
    recipe = _first("algorithm", algorithm_arn, lambda recipe: recipe.algorithm)
    own = [parameter for parameter in recipe.hyperparameters if not parameter.transformation]
    return {
        "algorithm": {
            "name": recipe.algorithm,
            "algorithmArn": algorithm_arn,
            "defaultHyperParameters": {parameter.name: text(parameter.default) for parameter in own},
            "defaultHyperParameterRanges": ranges(own),
            "trainingInputMode": "File",
            "creationDateTime": CREATED,
            "lastUpdatedDateTime": CREATED,
        }
    }


def describe_feature_transformation(account: Account, *, feature_transformation_arn: str) -> dict[str, Any]:
    """A feature transformation's parameters and their defaults."""
    recipe = _first("feature-transformation", feature_transformation_arn, lambda recipe: recipe.feature_transformation)
    return {
        "featureTransformation": {
            "name": recipe.feature_transformation,
            "featureTransformationArn": feature_transformation_arn,
            "defaultParameters": {
                parameter.name: text(parameter.default)
                for parameter in recipe.hyperparameters
                if parameter.transformation
            },
            "creationDateTime": CREATED,
            "lastUpdatedDateTime": CREATED,
            "status": "ACTIVE",
        }
    }


def text(value: Value) -> str:
    """A hyperparameter's value as it travels: numbers and booleans are strings."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def ranges(parameters: list[HyperParameter]) -> dict[str, list[dict[str, Any]]]:
    """The ranges of hyperparameters as DescribeAlgorithm prints them."""
    integer, continuous, categorical = [], [], []
    for parameter in parameters:
        name = {"name": parameter.name, "isTunable": parameter.tunable}
        if isinstance(parameter.default, bool | str):
            values = parameter.choices or (True, False)
            categorical.append({**name, "values": [text(value) for value in values]})
        else:
            kind = integer if isinstance(parameter.default, int) else continuous
            kind.append({**name, "minValue": parameter.low, "maxValue": parameter.high})
    return {
        "integerHyperParameterRanges": integer,
        "continuousHyperParameterRanges": continuous,
        "categoricalHyperParameterRanges": categorical,
    }


def _name(recipe_arn: str) -> str:
    """What follows the service's own prefix, "" for another ARN."""
    prefix = f"{SERVICE_ARN}recipe/"
    return recipe_arn.removeprefix(prefix) if recipe_arn.startswith(prefix) else ""


def _summary(recipe: Recipe | UseCase) -> dict[str, Any]:
    domain = {"domain": recipe.domain} if isinstance(recipe, UseCase) else {}
    return {
        **domain,
        "name": recipe.name,
        "recipeArn": arn_of(recipe),
        "status": "ACTIVE",
        "creationDateTime": CREATED,
        "lastUpdatedDateTime": CREATED,
    }


def _first(kind: str, arn: str, name: Any) -> Recipe:
    for recipe in RECIPES.values():
        if arn == f"{SERVICE_ARN}{kind}/{name(recipe)}":
            return recipe
    raise ResourceNotFoundException(f"The given {kind.replace('-', ' ')} does not exist: {arn}")


OPERATIONS = {
    operation.__name__: operation
    for operation in (describe_recipe, list_recipes, describe_algorithm, describe_feature_transformation)
}
