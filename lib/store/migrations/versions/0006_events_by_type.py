"""A user's newest events of each type are found by themselves; of a session's, those that came with it alone."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    """Add a column and create two indexes anew.  How the events of users came is not known any more."""
    events = sa.table("live_events", sa.column("user_id"), sa.column("anonymous", sa.Boolean))
    anonymous = sa.column("anonymous", sa.Boolean).is_(True)
    op.add_column("live_events", sa.Column("anonymous", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute(events.update().where(events.c.user_id.is_(None)).values(anonymous=True))
    for index in ("live_events_of_a_user", "live_events_of_a_session"):
        op.drop_index(index, "live_events")
    op.create_index("live_events_of_a_user", "live_events", ["dataset_arn", "user_id", "event_type", "sequence"])
    op.create_index(
        "live_events_of_a_session",
        "live_events",
        ["dataset_arn", "session_id", "event_type", "sequence"],
        sqlite_where=anonymous,
        postgresql_where=anonymous,
    )
