"""The tables of the first stores."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "resources",
        sa.Column("sequence", LONG, primary_key=True, autoincrement=True),
        sa.Column("arn", sa.String(256), nullable=False, unique=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(256)),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("gone_after", sa.Float),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("resources_of_a_parent", "resources", ["kind", "parent", "sequence"])
    op.create_table(
        "tags",
        sa.Column("arn", sa.String(256), primary_key=True),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("value", sa.String(256), nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(512), primary_key=True),
        sa.Column("value", LONG, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", LONG, primary_key=True, autoincrement=True),
        sa.Column("arn", sa.String(256), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("lane", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("slot", sa.String(32)),
        sa.Column("stop", sa.Boolean, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.UniqueConstraint("arn", "kind"),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_of_a_lane", "jobs", ["state", "lane", "id"])
    op.create_table(
        "live",
        sa.Column("dataset_arn", sa.String(256), primary_key=True),
        sa.Column("changes", LONG, nullable=False),
        sa.Column("newest", sa.Float),
    )
    op.create_table(
        "live_events",
        sa.Column("sequence", LONG, primary_key=True, autoincrement=True),
        sa.Column("dataset_arn", sa.String(256), nullable=False),
        sa.Column("session_id", sa.String(256), nullable=False),
        sa.Column("user_id", sa.String(256)),
        sa.Column("event_id", sa.String(256)),
        sa.Column("repeated", sa.Boolean, nullable=False),
        sa.Column("item_id", sa.String(256)),
        sa.Column("event_type", sa.String(256), nullable=False),
        sa.Column("sent_at", sa.Float, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("row", sa.JSON, nullable=False),
        sa.Column("impression", sa.JSON),
        sa.Column("recommendation_id", sa.String(40)),
        sa.Column("source", sa.String(1024)),
        sqlite_autoincrement=True,
    )
    op.create_index("live_events_of_a_user", "live_events", ["dataset_arn", "user_id", "sequence"])
    op.create_index("live_events_of_a_session", "live_events", ["dataset_arn", "session_id", "sequence"])
    op.create_index("live_events_by_id", "live_events", ["dataset_arn", "event_id"])
    op.create_table(
        "live_sessions",
        sa.Column("dataset_arn", sa.String(256), primary_key=True),
        sa.Column("session_id", sa.String(256), primary_key=True),
        sa.Column("user_id", sa.String(256), nullable=False),
    )
    op.create_table(
        "live_records",
        sa.Column("sequence", LONG, primary_key=True, autoincrement=True),
        sa.Column("dataset_arn", sa.String(256), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("row", sa.JSON, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("live_records_by_id", "live_records", ["dataset_arn", "id"], unique=True)
    op.create_index("live_records_in_order", "live_records", ["dataset_arn", "sequence"])
