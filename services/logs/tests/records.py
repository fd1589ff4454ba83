"""Log records as agents send them."""

import json
from typing import Any

__all__ = ["URL", "body", "record"]

URL = "/api/logs/"


def record(**given: Any) -> dict[str, Any]:
    """Return the body that the agents' library posts (swf-clients.md 6); ``given`` wins."""
    return {
        "app_name": "base_agent",
        "instance_name": "daq-7",
        "timestamp": "2026-05-05T10:00:00.123456",
        "level": 20,
        "levelname": "INFO",
        "message": "run 100010 has begun",
        "module": "base_agent",
        "funcname": "send_heartbeat",
        "lineno": 311,
        "process": 4711,
        "thread": 140713671113600,
        "extra_data": {"execution_id": "fast-ada-0001", "run_id": 100010, "username": "ada"},
        **given,
    }


def body(**given: Any) -> bytes:
    """Return `record` as it is sent."""
    return json.dumps(record(**given)).encode()
