"""A run with a million STF files, and batches of TF files."""

import io
import json
import time
import uuid
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.load._platform import Platform

__all__ = ["FIRST", "copied", "fill", "posted"]

FIRST = 100_000
"""Number of the first file; all numbers have six digits, so that each is part of a UUID and of a name."""

FILL = """
    INSERT INTO stf_file (file_id, machine_state, stf_filename, file_size_bytes, status, metadata, run_id)
    SELECT ('00000000-0000-4000-8000-000000' || n)::uuid, 'run', 'swf.101.' || n || '.stf', 2000000000, 'registered',
           jsonb_build_object('created_by', 'data-agent-ada-1', 'sequence', n), 1
    FROM generate_series({first}, {last}) AS n
"""
COLUMNS = "tf_file_id, stf_file_id, tf_filename, file_size_bytes, status, metadata, tf_first, tf_last, tf_count"


def fill(platform: Platform, database: str, rows: int) -> None:
    """Store a run of number 101 with files."""
    platform.sql(database, "INSERT INTO run (run_number, start_time) VALUES (101, now())")
    platform.sql(
        database, "INSERT INTO run_state SELECT 101, 'physics', 'run', 'physics', 30, 0, 0, 0, 0, 0, 0, 0, now()"
    )
    platform.sql(database, FILL.format(first=FIRST, last=FIRST + rows - 1))
    platform.sql(database, "VACUUM (ANALYZE) stf_file")


def posted(url: str, token: str, start: int, count: int) -> float:
    """Send one batch of TF files; return how many were stored a second.

    Raises
    ------
    RuntimeError
        Not all were.
    """
    body = json.dumps([_tf(start + n) for n in range(count)]).encode()
    address = urlsplit(url)
    assert address.hostname is not None
    with closing(HTTPConnection(address.hostname, address.port, timeout=60)) as connection:
        headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
        began = time.perf_counter()
        connection.request("POST", "/api/fastmon-files/", body, headers)
        answer = json.loads(connection.getresponse().read())
        seconds = time.perf_counter() - began
    if answer.get("accepted") != count:
        raise RuntimeError(f"a batch was answered {str(answer)[:500]}")
    return count / seconds


def copied(platform: Platform, database: str, start: int, count: int) -> float:
    """Copy as many into the same table, in one transaction; return rows a second."""
    lines = []
    for n in range(count):
        row = _tf(start + n)
        values = (
            uuid.uuid4(),
            f"00000000-0000-4000-8000-000000{FIRST}",
            row["tf_filename"],
            row["file_size_bytes"],
            row["status"],
            json.dumps(row["metadata"]),
            row["tf_first"],
            row["tf_last"],
            row["tf_count"],
        )
        lines.append("\t".join(map(str, values)) + "\n")
    text = io.StringIO("".join(lines))
    with closing(platform.connect(database)) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.copy_expert(f"COPY fastmon_file ({COLUMNS}) FROM STDIN", text)
        return count / (time.perf_counter() - began)


def _tf(n: int) -> dict[str, object]:
    """What the fast monitoring agent sends (swf-clients.md 5)."""
    return {
        "stf_file": f"swf.101.{FIRST}.stf",
        "tf_filename": f"swf.101.{FIRST}_tf_{n:08d}.tf",
        "tf_first": 1,
        "tf_last": 143,
        "tf_count": 143,
        "file_size_bytes": 15_000_000_000,
        "status": "registered",
        "metadata": {"simulation": True, "created_from": f"swf.101.{FIRST}.stf", "agent_name": "fastmon-agent-ada-3"},
    }
