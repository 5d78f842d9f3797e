"""A store has a name of its own, and counts its changes on databases that do not."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Create the table and its one row."""
    store = op.create_table(
        "store",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("changes", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
    )
    op.bulk_insert(store, [{"id": uuid4().hex, "changes": 0}])
