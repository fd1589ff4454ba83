"""The agent of `tests.integration.agent` with its broker (swf-clients.md 4, 7, 8); a process of its own.

Beside the variables of that one it reads ``ACTIVEMQ_HOST``, ``_PORT``, ``_USER`` and ``_PASSWORD``. It tells each
message that it got, and does with it what its role does.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import stomp  # type: ignore[import-untyped]

# As a script it is alone in its folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.agent import Agent, tell

Message = dict[str, Any]
RUNNER = "DAQ_Simulator"
"""Says STARTING as soon as it is connected."""


class StompAgent(Agent, stomp.ConnectionListener):  # type: ignore[misc]
    """An agent with a broker; `handle` is what a role does with a message."""

    def __init__(self, *, client_id: bool = True, **given: Any) -> None:
        super().__init__(**given)
        self._destination = given["destination"]
        self._work: SimpleQueue[Message | None] = SimpleQueue()
        host, port = os.environ["ACTIVEMQ_HOST"], int(os.environ["ACTIVEMQ_PORT"])
        self._stomp = stomp.StompConnection11(
            [(host, port)], vhost=host, heartbeats=(30000, 30000), auto_content_length=False
        )
        self._stomp.set_listener("agent", self)
        headers = {"version": "1.1", "heart-beat": "30000,30000", **({"client-id": self.name} if client_id else {})}
        self._stomp.connect(os.environ["ACTIVEMQ_USER"], os.environ["ACTIVEMQ_PASSWORD"], wait=True, headers=headers)
        if given["kind"] == RUNNER:
            self.heartbeat()

    def run(self) -> None:
        """Live, and say farewell to the broker."""
        worker = threading.Thread(target=self._handle_all)
        worker.start()
        super().run()
        self._work.put(None)
        worker.join()
        self._stomp.disconnect("farewell")

    def _subscribe(self) -> None:
        self._stomp.subscribe(self._destination, "1", "auto")
        super()._subscribe()

    def on_message(self, frame: Any) -> None:
        """Take a message from the broker's thread."""
        self._work.put(json.loads(frame.body))

    def on_error(self, frame: Any) -> None:
        """The broker does not want us."""
        tell(event="error", reason=frame.headers["message"])

    def send(self, destination: str, message: Message) -> None:
        """Send as the base class does: no length, no type."""
        self._stomp.send(destination, json.dumps({**message, "sender": self.name, "namespace": self._namespace}))

    def handle(self, message: Message) -> None:
        """Do nothing more."""

    def _handle_all(self) -> None:
        for message in iter(self._work.get, None):
            assert message is not None
            named = message.get("namespace")
            if named is None or named == self._namespace:
                self.handle(message)
                tell(event="message", message=message)
            else:
                tell(event="foreign", message=message)


class Manager(StompAgent):
    """The agent manager: commands from a queue (8), no client-id (7)."""

    def __init__(self, **given: Any) -> None:
        super().__init__(client_id=False, **given)

    def handle(self, message: Message) -> None:
        """Answer a ping; refuse to start what runs."""
        if message["command"] == "ping":
            self.send(message["reply_to"], {"status": "alive", "username": self._namespace})
        elif message["command"] == "start_testbed":
            self._log.warning("start refused: agents are running")


class Prompt(StompAgent):
    """The prompt processing agent, its batch system played by a switch."""

    holds = False

    def run(self) -> None:
        """Take up what was left, then live."""
        for row in self._files("processing"):
            if row["metadata"].get("panda_tracking_namespace") == self._namespace:
                self._finish(row)
        super().run()

    def handle(self, message: Message) -> None:
        """Claim what is there to be processed."""
        if message["msg_type"] != "stf_ready":
            return
        for row in self._files("registered"):
            claim = {"panda_task_id": 4242, "panda_tracking_namespace": self._namespace}
            self._request("PATCH", f"/stf-files/{row['file_id']}/", {"status": "processing", "metadata": claim})
            if not self.holds:
                self._finish(row)

    def _files(self, status: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._request("GET", "/stf-files/")
        return [row for row in found if row["status"] == status]

    def _finish(self, row: dict[str, Any]) -> None:
        done = {"panda_task_id": 4242, "matched_input_files": [row["stf_filename"]]}
        self._request("PATCH", f"/stf-files/{row['file_id']}/", {"status": "processed", "metadata": done})


class HoldingPrompt(Prompt):
    """Its tasks never end."""

    holds = True


ROLES: dict[str, Callable[..., StompAgent]] = {
    "any": StompAgent,
    "manager": Manager,
    "prompt": Prompt,
    "holding-prompt": HoldingPrompt,
}


def main() -> None:
    """Live until SIGTERM, SIGQUIT or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=ROLES, default="any")
    parser.add_argument("--kind", default="DATA")
    parser.add_argument("--user", default="ada")
    parser.add_argument("--namespace", default="ada-test")
    parser.add_argument("--destination", default="/topic/epictopic")
    parser.add_argument("--every", type=float, default=60.0)
    given = vars(parser.parse_args())
    role = ROLES[given.pop("role")]
    agent = role(
        url=os.environ["SWF_MONITOR_URL"],
        http_url=os.environ["SWF_MONITOR_HTTP_URL"],
        token=os.environ.get("SWF_API_TOKEN"),
        **given,
    )
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()


if __name__ == "__main__":
    main()
