"""What came since is read without looking at what was there; ids that events do not have are in no index."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    """Create one index, and another anew."""
    has_id = sa.text("event_id IS NOT NULL")
    op.create_index("live_events_in_order", "live_events", ["dataset_arn", "sequence"])
    op.drop_index("live_events_by_id", "live_events")
    op.create_index(
        "live_events_by_id", "live_events", ["dataset_arn", "event_id"], sqlite_where=has_id, postgresql_where=has_id
    )
