"""Recommendations are searched by user when users are taken out, and that rarely: it cost most of keeping a list."""

from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    """Drop the index."""
    op.drop_index("recommendations_of_a_user", "recommendations")
