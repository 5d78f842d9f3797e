"""What was recommended is kept for the events that answer it, and what was asked for the bill."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Create both tables."""
    long = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "recommendations",
        sa.Column("sequence", long, primary_key=True, autoincrement=True),
        sa.Column("recommendation_id", sa.String(40), nullable=False),
        sa.Column("resource_arn", sa.String(256), nullable=False),
        sa.Column("user_id", sa.String(256)),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("item_ids", sa.JSON, nullable=False),
        sa.Column("propensities", sa.JSON),
        sqlite_autoincrement=True,
    )
    op.create_index("recommendations_by_id", "recommendations", ["recommendation_id"])
    op.create_index("recommendations_of_a_user", "recommendations", ["user_id"])
    op.create_table(
        "consumption",
        sa.Column("window", long, primary_key=True, autoincrement=False),
        sa.Column("resource_arn", sa.String(256), primary_key=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("provisioned_tps", sa.Integer, nullable=False),
    )
