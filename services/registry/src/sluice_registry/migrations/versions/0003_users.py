"""Users, sessions, tokens for some namespaces, and keys that are made known before they sign."""

from alembic import op
from sqlalchemy import Boolean, Column, DateTime, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003"
down_revision = "0002"

instant = DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "user_account",
        Column("username", String(150), primary_key=True),
        Column("email", String(254), nullable=False),
        Column("is_active", Boolean, nullable=False),
        Column("roles", ARRAY(String(50)), nullable=False),
        Column("password_hash", Text),
        Column("created_at", instant, nullable=False, server_default=text("now()")),
        Column("last_login", instant),
    )
    op.add_column("token", Column("kind", String(10), nullable=False, server_default="signed"))
    op.add_column("token", Column("namespaces", ARRAY(String(100))))
    op.add_column("token", Column("kid", String(64)))
    op.add_column("signing_key", Column("published_at", instant))
    op.execute("UPDATE signing_key SET published_at = created_at")
    op.execute("UPDATE token SET kind = 'opaque' WHERE sha256 IS NOT NULL")
    # Until now the newest key has signed, and there was no way to make a second one.
    op.execute(
        """
        UPDATE token SET kid = (SELECT kid FROM signing_key ORDER BY created_at DESC, kid LIMIT 1)
        WHERE sha256 IS NULL
        """
    )
    op.create_index("token_revoked", "token", ["expires_at"], postgresql_where=text("revoked_at IS NOT NULL"))
