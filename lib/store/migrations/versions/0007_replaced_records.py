"""What a put record took the place of stays, for exports."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    """Add a column; one record of an id is present, others may be there.  What was replaced until now is gone."""
    present = sa.column("replaced", sa.Boolean).is_(False)
    op.add_column("live_records", sa.Column("replaced", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_index("live_records_by_id", "live_records")
    op.create_index("live_records_by_id", "live_records", ["dataset_arn", "id"])
    op.create_index(
        "live_records_present",
        "live_records",
        ["dataset_arn", "id"],
        unique=True,
        sqlite_where=present,
        postgresql_where=present,
    )
