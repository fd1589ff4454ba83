"""The names under which the agents' library has its REST logging, so that an agent changes one import."""

import logging
import os

from sluice_client.handler import LogHandler

__all__ = ["RestLogHandler", "setup_rest_logging"]

RestLogHandler = LogHandler
DEFAULT_URL = "http://localhost:8002"


def setup_rest_logging(
    app_name: str, instance_name: str, base_url: str | None = None, timeout: float = 10
) -> logging.Logger:
    """Return the logger of an agent, whose records go to the log service and to the console.

    Parameters
    ----------
    app_name
        Also the name of the logger, which loses the handlers that it had.
    base_url
        ``SWF_MONITOR_HTTP_URL`` when absent.
    timeout
        Seconds for one request; the agent never waits for them.
    """
    logger = logging.getLogger(app_name)
    for known in logger.handlers[:]:
        logger.removeHandler(known)
        known.close()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(levelname)s [%(threadName)s]: %(message)s"))
    url = base_url if base_url is not None else os.environ.get("SWF_MONITOR_HTTP_URL", DEFAULT_URL)
    logger.addHandler(LogHandler(url, app_name, instance_name, shown, timeout))
    return logger
