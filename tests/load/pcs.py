"""How fast physics configurations are served.

The creation of tags is compared with a handler written by hand that runs the same statements, in turns; the ratio is
the median of the turns'. Numbers are looked at afterwards: not one may be missing.
"""

import argparse
import http.client
import json
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

from sluice_core.testing import eventually
from tests.integration.platforms import Client, Serve
from tests.load import _lists, _wrk
from tests.load._baselines import POOL
from tests.load._platform import Platform, started
from tests.load._report import AtLeast, AtMost, Report
from tests.load._wrk import Requests

DATABASE = "sluice_pcs"
API = "/pcs/api/"
EVGEN = f"{API}evgen-tags/"
LISTED = 10_000
FILES, CHUNK, CLIENTS = 10_000_000, 1_000, 8
PARAMETERS = {
    "evgen": {"generator": "pythia8", "generator_version": "8.310"},
    "physics": {"process": "DIS_NC", "beam_energy_electron": "18", "beam_energy_hadron": "275"},
    "simu": {"detector_sim": "npsim", "sim_version": "26.02.0"},
    "reco": {"reco_version": "26.02.0", "reco_config": "standard"},
}
NEW = {"created_by": "ada", "parameters": PARAMETERS["evgen"]}

TARGETS: Mapping[str, AtLeast | AtMost] = {
    "create": AtLeast(0.60),
    "numbers_missing": AtMost(0),
    "list_10000_first_byte_ms": AtMost(50),
    "blocks": AtMost(100),
    "blocks_full": AtLeast(100),
}


def creation(
    report: Report, pcs: Serve, handwritten: Serve, headers: Mapping[str, str], *, rounds: int, seconds: int
) -> None:
    """Measure the creation of tags by 16 clients."""
    what = Requests("POST", EVGEN, json.dumps(NEW), {**headers, "Content-Type": "application/json"})
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(_wrk.send(handwritten.http, replace(what), connections=16, seconds=seconds))
        ours.append(_wrk.send(pcs.http, replace(what), connections=16, seconds=seconds))
        print(f"  create: {ours[-1].rate:,.0f}/s to {theirs[-1].rate:,.0f}/s", flush=True)
    report.ratios["create"] = statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    for name, loads in (("handwritten_create", theirs), ("create", ours)):
        report.measured[f"{name}_per_s"] = statistics.median(each.rate for each in loads)
        report.measured[f"{name}_p99_ms"] = statistics.median(each.p99 for each in loads) * 1e3
        if any(each.saturated for each in loads):
            report.doubts.append(f"{name}: wrk itself was busy, so the server may be faster than measured.")


def numbers(report: Report, platform: Platform) -> None:
    """Count the numbers that no tag has."""
    ((missing,),) = platform.sql(DATABASE, "SELECT coalesce(max(tag_number), 0) - count(*) FROM evgen_tag")
    report.measured["numbers_missing"] = missing


def lists(report: Report, platform: Platform, pcs: Serve) -> None:
    """Measure how soon the list of all tags begins."""
    platform.sql(DATABASE, "DELETE FROM evgen_tag WHERE status = 'draft'")
    platform.sql(
        DATABASE,
        f"""
        INSERT INTO evgen_tag (tag_number, tag_label, status, description, parameters, created_by)
        SELECT n, 'e' || n, 'draft', 'one of many', '{json.dumps(PARAMETERS["evgen"])}', 'ada'
        FROM generate_series(1000001, {1000000 + LISTED}) AS n
        """,
    )
    platform.sql(DATABASE, "VACUUM (ANALYZE) evgen_tag")
    reads = [_lists.read(pcs.http, f"{EVGEN}?status=draft") for _ in range(11)]
    if any(each.rows != LISTED for each in reads):
        raise RuntimeError(f"{LISTED} tags were listed as {[each.rows for each in reads]}")
    report.measured["list_10000_first_byte_ms"] = statistics.median(each.first for each in reads) * 1e3
    report.measured["list_10000_whole_ms"] = statistics.median(each.seconds for each in reads) * 1e3


def composed(client: Client) -> str:
    """Make a data set of locked tags; return its path."""
    made = client.post(f"{API}physics-categories/", {"digit": 1, "name": "DIS", "created_by": "ada"})
    body = {"created_by": "ada", "detector_version": "26.02.0", "detector_config": "epic_craterlake"}
    for kind, parameters in PARAMETERS.items():
        more = {"category": 1} if kind == "physics" else {}
        path = f"{API}{kind}-tags/"
        tag = client.post(path, {"created_by": "ada", "parameters": parameters, **more}).json()
        made = client.post(f"{path}{tag['tag_number']}/lock/")
        body[f"{kind}_tag"] = made.json()["id"]
    made = client.post(f"{API}datasets/", body)
    if made.status_code != 201:
        raise RuntimeError(f"no data set: {made.status_code} {made.text}")
    return f"{API}datasets/{made.json()['id']}/"


def files(report: Report, pcs: Serve, client: Client, headers: Mapping[str, str]) -> None:
    """Report ten million files in chunks by several clients at once."""
    path = composed(client)
    address = urlsplit(pcs.http)

    def send(first: int) -> None:
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        for number in range(first, FILES // CHUNK, CLIENTS):
            body = json.dumps({"count": CHUNK, "bytes": CHUNK * 10**6, "key": f"chunk {number}"})
            connection.request("POST", f"{path}files/", body, {**headers, "Content-Type": "application/json"})
            reply = connection.getresponse()
            said = reply.read()
            if reply.status != 200:
                raise RuntimeError(f"chunk {number}: {reply.status} {said[:200]!r}")
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, range(CLIENTS)))
    report.measured["files_reports_per_s"] = FILES / CHUNK / (time.perf_counter() - began)
    manifest = client.get(f"{path}manifest/").json()
    report.measured["blocks"] = manifest["blocks"]
    report.measured["blocks_full"] = sum(each["file_count"] == 100_000 for each in manifest["files"])
    if manifest["file_count"] != FILES:
        raise RuntimeError(f"{FILES} files were counted as {manifest['file_count']}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often creation is measured (default: 7)")
    parser.add_argument("--seconds", type=int, default=2, help="of each load (default: 2)")
    parser.add_argument("--only", choices=("create", "lists", "files"), help="a part of it")
    given = parser.parse_args()
    report = Report("pcs", TARGETS)
    if not _wrk.available():
        report.doubts.append(_wrk.MISSING)
    with started() as platform:
        urls = {
            name: platform.database(name, package)
            for name, package in (
                ("sluice_registry", "sluice_registry"),
                (DATABASE, "sluice_pcs"),
                ("tags", "sluice_pcs"),
            )
        }
        headers = {"Authorization": f"Token {platform.token}"}
        with (
            # It makes the streams, and knows the token.
            platform.service("registry", urls["sluice_registry"], admin_token=platform.token),
            platform.service("pcs", urls[DATABASE], pool_size=str(POOL)) as pcs,
            platform.baseline("tags", urls["tags"]) as handwritten,
        ):
            eventually(pcs.ready, 60)
            if given.only in (None, "create") and _wrk.available():
                creation(report, pcs, handwritten, headers, rounds=given.rounds, seconds=given.seconds)
                numbers(report, platform)
            if given.only in (None, "files"):
                files(report, pcs, Client(pcs.http, platform.token), headers)
            if given.only in (None, "lists"):
                lists(report, platform, pcs)
    report.show()


if __name__ == "__main__":
    main()
