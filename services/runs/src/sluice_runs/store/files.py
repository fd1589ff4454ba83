"""Files by the names that others know them by. Never commits; whoever opened the connection does."""

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, select

from sluice_runs.tables import fastmon_file, stf_file

__all__ = ["parents"]

_PARENTS = (
    select(fastmon_file.c.tf_filename, stf_file.c.stf_filename)
    .join(stf_file)
    .where(fastmon_file.c.tf_filename.in_(bindparam("names", expanding=True)))
)


def parents(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Return the STF file of each of these TF files that exists, by names."""
    if not names:
        return {}
    return dict(connection.execute(_PARENTS, {"names": list(names)}).all())
