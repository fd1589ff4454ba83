"""No input makes the stream service fail."""

import requests

from sluice_core.testing.apps import AppMaker
from sluice_core.testing.fuzz import assert_no_server_error
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens


def test_no_input_is_answered_by_a_server_error(make_app: AppMaker, tokens: Tokens) -> None:
    app, headers = make_app(), tokens.header("admin")
    with serving(app) as served:
        url = f"{served.url}/api/subscribers/"
        row = requests.post(url, json={"subscriber_name": "daq-7"}, headers=headers, timeout=10).json()
        rows = {"subscriber_id": row["subscriber_id"]}
        document = app.openapi()
        # Never ends; its own tests send it odd input.
        del document["paths"]["/api/messages/stream/"]
        # Nothing but a token is asked of it, and without NATS it is 503.
        del document["paths"]["/api/stomp/"]
        assert_no_server_error(served.url, document, headers=headers, rows=rows)
