"""Amazon Personalize's nouns: what may be created, changed, deleted, and when.

``OPERATIONS``: name of an API operation, as boto3 spells its method, -> function of (account, **members) that answers
with the operation's top-level members.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # On demand: campaigns use resources, and operations use campaigns.
    if name == "OPERATIONS":
        from lib.resources.operations import OPERATIONS

        return OPERATIONS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
