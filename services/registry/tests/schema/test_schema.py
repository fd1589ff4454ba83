"""``/api/schema/`` and its two pages, which load nothing from outside the site (contract 4.5)."""

import base64
import hashlib
import re
from urllib.parse import urljoin, urlsplit

import pytest
import yaml
from starlette.testclient import TestClient

from ..conftest import Start

SCHEMA = "/api/schema/"
PAGES = (f"{SCHEMA}swagger-ui/", f"{SCHEMA}redoc/")


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/vnd.oai.openapi"),
        ("", "", "application/vnd.oai.openapi"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "application/vnd.oai.openapi"),
        ("", "application/yaml", "application/yaml"),
        ("", "application/json", "application/json"),
        ("", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
        ("?format=json", "*/*", "application/vnd.oai.openapi+json"),
        ("?format=json", "application/json", "application/json"),
        ("?format=yaml", "*/*", "application/vnd.oai.openapi"),
    ],
)
def test_the_schema_comes_as_it_is_wanted(standing: TestClient, query: str, accept: str, media_type: str) -> None:
    reply = standing.get(f"{SCHEMA}{query}", headers={"Accept": accept})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == media_type
    found = reply.json() if media_type.endswith("json") else yaml.safe_load(reply.text)
    assert found["info"] == {"title": "SWF Monitor API", "version": "1.0.0"}
    assert "/api/logs/" in found["paths"]


def test_yaml_and_json_say_the_same(standing: TestClient) -> None:
    as_yaml = yaml.safe_load(standing.get(SCHEMA).text)
    assert as_yaml == standing.get(SCHEMA, headers={"Accept": "application/json"}).json()


@pytest.mark.parametrize(
    ("query", "accept", "status", "detail"),
    [
        ("?format=xml", "*/*", 404, "Not found."),
        ("", "text/event-stream", 406, "Could not satisfy the request Accept header."),
        ("?format=json", "application/yaml", 406, "Could not satisfy the request Accept header."),
    ],
)
def test_what_does_not_exist_is_refused(
    standing: TestClient, query: str, accept: str, status: int, detail: str
) -> None:
    reply = standing.get(f"{SCHEMA}{query}", headers={"Accept": accept})
    assert (reply.status_code, reply.json()) == (status, {"detail": detail})


@pytest.mark.parametrize("prefix", ["", "/swf-monitor"])
def test_the_schema_says_where_its_paths_begin(start: Start, prefix: str) -> None:
    client = start(shared={"base_path": prefix})
    expected = [{"url": f"http://lab.example.org{prefix}"}]
    for query in ("?format=json", "?format=yaml"):
        reply = client.get(f"{prefix}{SCHEMA}{query}", headers={"Host": "lab.example.org"})
        assert yaml.safe_load(reply.text)["servers"] == expected


@pytest.mark.parametrize("path", [SCHEMA, *PAGES])
def test_the_schema_looks_at_no_credential(start: Start, path: str) -> None:
    client = start(shared={"anonymous_read": False})
    assert client.get(path, headers={"Authorization": "Token bad"}).status_code == 200


@pytest.mark.parametrize("path", [SCHEMA, *PAGES])
def test_only_the_head_is_answered_too(standing: TestClient, path: str) -> None:
    assert standing.head(path).status_code == 200


@pytest.mark.parametrize("path", [SCHEMA, *PAGES])
def test_a_missing_slash_is_redirected_below_the_prefix(start: Start, path: str) -> None:
    client = start(shared={"base_path": "/swf-monitor"})
    reply = client.get(f"/swf-monitor{path.removesuffix('/')}?format=json")
    assert (reply.status_code, reply.headers["location"]) == (301, f"/swf-monitor{path}?format=json")
    assert reply.content == b""
    assert "x-frame-options" not in reply.headers


@pytest.mark.parametrize("prefix", ["", "/swf-monitor"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_everything_from_here(start: Start, page: str, prefix: str) -> None:
    client = start(shared={"base_path": prefix})
    reply = client.get(prefix + page)
    assert reply.headers["content-type"].startswith("text/html")
    loaded = [*re.findall(r'(?:src|href|spec-url)="([^"]+)"', reply.text), *re.findall(r'url: "([^"]+)"', reply.text)]
    assert len(loaded) >= 3
    for reference in loaded:
        url = urljoin(f"http://testserver{prefix}{page}", reference)
        assert urlsplit(url).netloc == "testserver"
        assert client.get(url).status_code == 200, reference


@pytest.mark.parametrize("page", PAGES)
def test_a_page_may_run_its_own_scripts_only(standing: TestClient, page: str) -> None:
    reply = standing.get(page)
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    for script in re.findall(r"<script>(.*?)</script>", reply.text, re.DOTALL):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


@pytest.mark.parametrize("name", ["nope.js", "..%2Fcore.py", "%2E%2E%2Fcore.py", "..%5Ccore.py", "%00"])
def test_only_files_of_the_pages_are_served(standing: TestClient, name: str) -> None:
    assert standing.get(f"{SCHEMA}static/{name}").status_code in (400, 404)


def test_a_file_that_a_browser_has_is_not_sent_again(standing: TestClient) -> None:
    url = f"{SCHEMA}static/swagger-ui.css"
    first = standing.get(url)
    assert first.headers["content-type"].startswith("text/css")
    assert standing.get(url, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
