"""Logging: one JSON line an event, tied to its request, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sluice_core.logging import RequestContext, configure_logging, mask, request_context


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    yield stream
    root.handlers = before
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_structlog_and_the_standard_library_give_the_same_json(lines: io.StringIO) -> None:
    structlog.get_logger("one").info("started", port=8002)
    logging.getLogger("two").info("started %s", 8002, extra={"port": 8002})
    first, second = read(lines)
    assert (first["event"], first["port"], first["level"], first["logger"]) == ("started", 8002, "info", "one")
    assert (second["event"], second["port"], second["level"], second["logger"]) == ("started 8002", 8002, "info", "two")
    assert first["timestamp"].endswith("Z")


def test_a_line_names_its_request(lines: io.StringIO) -> None:
    token = request_context.set(RequestContext("r-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    try:
        structlog.get_logger().info("one")
        logging.getLogger("x").warning("two")
    finally:
        request_context.reset(token)
    assert [line["request_id"] for line in read(lines)] == ["r-1", "r-1"]
    assert all(line["traceparent"].startswith("00-aaaa") for line in read(lines))


def test_less_than_the_level_is_not_logged(lines: io.StringIO) -> None:
    structlog.get_logger().debug("no")
    logging.getLogger("uvicorn.error").info("no")
    assert read(lines) == []


def test_no_secret_reaches_a_line(lines: io.StringIO) -> None:
    logger = structlog.get_logger()
    logger.info("a", token="hunter2", Authorization="Token hunter2", settings={"database_url": "hunter2"})
    logger.info("cannot reach postgresql://sluice:hunter2@db/x", urls=["nats://u:hunter2@bus:4222"])
    logging.getLogger("x").info("b", extra={"password": "hunter2"})
    try:
        raise ValueError("no route to nats://u:hunter2@bus")
    except ValueError:
        logger.exception("c")
    assert "hunter2" not in lines.getvalue()
    assert "ValueError: no route to nats://u:***@bus" in read(lines)[-1]["exception"]


def test_what_is_no_json_is_written_all_the_same(lines: io.StringIO) -> None:
    structlog.get_logger().info("odd", value=object(), raw=b"\xff", number=float("inf"))
    assert read(lines)[0]["value"].startswith("<object")


@pytest.mark.parametrize("value", [{"tokens": 0}, {"token": None}, "a@b", 5, [{"x": 1}]])
def test_masking_leaves_the_rest_alone(value: Any) -> None:
    assert mask(value) == value
