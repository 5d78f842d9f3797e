"""How much of everything one account may have: Amazon Personalize's quotas (its guide, page limits), to be changed."""

import math
from collections.abc import Mapping

UNLIMITED = math.inf

DEFAULTS: Mapping[str, float] = {
    "schemas": 500,
    "dataset_groups": 5,
    "solutions_per_group": 10,
    "campaigns_per_group": 5,
    "recommenders_per_group": 5,
    "filters_per_group": 30,
    "fields_per_filter": 10,
    "days_that_filters_remember": 90,
    "filter_fields_per_group": 20,
    "pending_import_jobs": 5,
    "pending_export_jobs": 5,
    "pending_batch_inference_jobs": 5,
    "pending_batch_segment_jobs": 5,
    "batch_files": 1000,
    "batch_bytes": 2**30,
    "batch_lines_with_themes": 100,
    "pending_solution_versions": 20,
    "pending_data_deletion_jobs_per_group": 5,
    "metrics_per_attribution": 10,
    "attribution_sources": 100,
    "tags_per_resource": 50,
    "minimum_interactions": 1000,
    "minimum_users": 25,
    "full_import_bytes": 100 * 2**30,
    "incremental_import_bytes": 2**30,
    "event_types_and_columns": 10,
    "transactions_per_second_per_core": 20_000,
    "transactions_per_second_per_worker": 1000,
    "hours_between_exploration_updates": 2,
    "seconds_to_keep_answers": 0,
}


def quotas(changed: Mapping[str, float]) -> Mapping[str, float]:
    """The default quotas with some changed.  Raises ValueError for a quota that does not exist."""
    for name in changed:
        if name not in DEFAULTS:
            raise ValueError(f"{name!r} is no quota; the quotas are {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **changed}
