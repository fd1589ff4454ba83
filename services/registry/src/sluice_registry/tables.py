"""Tables of the registry."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from sluice_core.outbox import outbox_table

__all__ = [
    "ai_memory",
    "audit",
    "counter",
    "metadata",
    "namespace",
    "outbox",
    "signing_key",
    "system_agent",
    "token",
    "user_account",
    "worker",
]

metadata = MetaData()
Instant = DateTime(timezone=True)
AnyJson = JSONB(none_as_null=True)

# contract 3.1; agent_type is wider, since heartbeats bring workflow names (decision 9)
system_agent = Table(
    "system_agent",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("instance_name", String(100), nullable=False, unique=True),
    Column("agent_type", String(100), nullable=False),
    Column("description", Text, nullable=False),
    Column("status", String(10), nullable=False),
    Column("last_heartbeat", Instant),
    Column("agent_url", String(200)),
    Column("workflow_enabled", Boolean, nullable=False),
    Column("current_stf_count", Integer, nullable=False),
    Column("total_stf_processed", Integer, nullable=False),
    Column("last_stf_processed", Instant),
    Column("pid", Integer),
    Column("hostname", String(100)),
    Column("operational_state", String(20), nullable=False),
    Column("namespace", String(100)),
    Column("metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=text("now()")),
    Column("updated_at", Instant, nullable=False, server_default=text("now()")),
)
# None with `last_heartbeat`, and pages that are half empty: so a heartbeat writes its row anew in the same page, and no
# index.
Index("system_agent_namespace", system_agent.c.namespace)

# contract 3.13
worker = Table(
    "worker",
    metadata,
    Column("worker_id", String(255), primary_key=True),
    Column("run_number", Integer, nullable=False, index=True),
    Column("panda_job", String(255), nullable=False),
    Column("location", String(255), nullable=False),
    Column("status", String(20), nullable=False),
    Column("current_slice_id", Integer),
    Column("tf_filename", String(255)),
    Column("slices_completed", Integer, nullable=False),
    Column("last_heartbeat", Instant),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("metadata", AnyJson),
)

# contract 4.3
namespace = Table(
    "namespace",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("owner", String(100), nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=text("now()")),
    Column("updated_at", Instant, nullable=False, server_default=text("now()")),
)

# contract 4.2; a row for each, so that they do not wait for each other
counter = Table(
    "counter",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("next", BigInteger, nullable=False),
    Column("last_taken_at", Instant),
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("private_pem", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=text("now()")),
    # Since when the other services can know it; it signs some time later.
    Column("published_at", Instant),
)

# Every token that was made or imported, and every session. A signed one is known by its id alone, an opaque one by its
# hash.
token = Table(
    "token",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("subject", String(150), nullable=False, index=True),
    Column("roles", ARRAY(String(50)), nullable=False),
    Column("scopes", ARRAY(String(50)), nullable=False),
    Column("sha256", String(64), unique=True),
    Column("created_at", Instant, nullable=False, server_default=text("now()")),
    Column("created_by", String(150), nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    # signed, opaque or session
    Column("kind", String(10), nullable=False, server_default="signed"),
    # The only ones whose rows it may write; null: all.
    Column("namespaces", ARRAY(String(100))),
    # Of the key that signed it.
    Column("kid", String(64)),
)
Index("token_revoked", token.c.expires_at, postgresql_where=text("revoked_at IS NOT NULL"))

user_account = Table(
    "user_account",
    metadata,
    Column("username", String(150), primary_key=True),
    Column("email", String(254), nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("roles", ARRAY(String(50)), nullable=False),
    # argon2id; null: no password is right.
    Column("password_hash", Text),
    Column("created_at", Instant, nullable=False, server_default=text("now()")),
    Column("last_login", Instant),
    # What the facility's provider calls him, since he logged in there for the first time.
    Column("facility_subject", String(255)),
)

# contract 4.4
ai_memory = Table(
    "ai_memory",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("username", String(100), nullable=False),
    Column("session_id", String(255), nullable=False),
    Column("role", String(10), nullable=False),
    Column("content", Text, nullable=False),
    Column("namespace", String(100)),
    Column("project_path", String(500)),
    Column("created_at", Instant, nullable=False, server_default=text("now()"), index=True),
)
# The namespace comes last: it is looked at in the index, and the order holds with and without it.
Index(
    "ai_memory_newest",
    ai_memory.c.username,
    ai_memory.c.created_at,
    ai_memory.c.id,
    ai_memory.c.namespace,
)

# sluice_core.audit.Record
audit = Table(
    "audit",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("service", String(50), nullable=False),
    Column("action", String(255), nullable=False),
    # Empty when nobody knows; not called "user", which is a word of SQL.
    Column("username", String(255), nullable=False),
    Column("token_id", String(255)),
    Column("method", String(255), nullable=False),
    Column("route", String(255), nullable=False),
    Column("key", String(255), nullable=False),
    Column("outcome", String(10), nullable=False),
    Column("status", Integer),
    Column("request_id", String(255), nullable=False),
    Column("source", String(255), nullable=False),
    Column("detail", AnyJson),
)
Index("audit_newest", audit.c.at, audit.c.id)
Index("audit_of_user", audit.c.username, audit.c.at, audit.c.id)
Index("audit_of_token", audit.c.token_id, audit.c.at, audit.c.id, postgresql_where=text("token_id IS NOT NULL"))

outbox = outbox_table(metadata)
