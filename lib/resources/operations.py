"""All operations of the API that this version performs."""

from lib.resources import (
    campaigns,
    data_deletion_jobs,
    dataset_export_jobs,
    dataset_groups,
    dataset_import_jobs,
    datasets,
    event_trackers,
    events,
    filters,
    recipes,
    runtime,
    schemas,
    solution_versions,
    solutions,
    tags,
)

OPERATIONS = {
    **campaigns.OPERATIONS,
    **data_deletion_jobs.OPERATIONS,
    **dataset_export_jobs.OPERATIONS,
    **dataset_groups.OPERATIONS,
    **dataset_import_jobs.OPERATIONS,
    **datasets.OPERATIONS,
    **event_trackers.OPERATIONS,
    **events.OPERATIONS,
    **filters.OPERATIONS,
    **recipes.OPERATIONS,
    **runtime.OPERATIONS,
    **schemas.OPERATIONS,
    **solution_versions.OPERATIONS,
    **solutions.OPERATIONS,
    **tags.OPERATIONS,
}
