"""Users who log in at the facility's provider."""

from alembic import op
from sqlalchemy import Column, String

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("user_account", Column("facility_subject", String(255)))
