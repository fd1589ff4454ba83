"""No input makes the log service fail."""

import requests

from sluice_core.testing.apps import AppMaker
from sluice_core.testing.fuzz import assert_no_server_error
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .records import URL, record


def test_no_input_is_answered_by_a_server_error(make_app: AppMaker, tokens: Tokens) -> None:
    app = make_app()
    with serving(app) as served:
        row = requests.post(f"{served.url}{URL}", json=record(), timeout=10).json()
        document = app.openapi()
        # Never ends; its own tests send it odd input.
        del document["paths"]["/api/logs/tail/"]
        rows = {"id": row["id"], "form": "ndjson"}
        assert_no_server_error(served.url, document, headers=tokens.header("admin"), rows=rows)
