"""Readiness: every check is asked, none can hang it, and a stopping process is not ready."""

import asyncio

from sluice_core.health import Health


async def test_one_failed_check_makes_the_service_unready() -> None:
    health = Health()
    health.add("fine", lambda: (True, "yes"))
    health.add("broken", lambda: (False, "no such table"))
    report = await health.ready()
    assert report.ok is False
    assert report.body() == {
        "status": "not ready",
        "checks": {"fine": {"ok": True, "detail": "yes"}, "broken": {"ok": False, "detail": "no such table"}},
    }


async def test_a_check_that_raises_is_a_failed_one_and_tells_no_password() -> None:
    async def database() -> tuple[bool, str]:
        raise ConnectionError("postgresql://a:hunter2@db refused")

    health = Health()
    health.add("database", database)
    report = await health.ready()
    assert report.checks["database"] == (False, "ConnectionError: postgresql://a:***@db refused")


async def test_a_check_that_hangs_fails_in_bounded_time() -> None:
    async def hang() -> tuple[bool, str]:
        await asyncio.Event().wait()
        return True, ""

    health = Health(timeout=0.05)
    health.add("bus", hang)
    report = await asyncio.wait_for(health.ready(), 2)
    assert report.checks["bus"] == (False, "no answer in 0.05 s")


async def test_probes_share_one_run_of_the_checks() -> None:
    runs = 0

    async def count() -> tuple[bool, str]:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return True, ""

    health = Health(max_age=60)
    health.add("count", count)
    await asyncio.gather(*(health.ready() for _ in range(20)))
    await health.ready()
    assert runs == 1


async def test_a_probe_that_gives_up_leaves_the_run_to_the_others() -> None:
    release = asyncio.Event()

    async def slow() -> tuple[bool, str]:
        await release.wait()
        return True, ""

    health = Health()
    health.add("slow", slow)
    first, second = asyncio.create_task(health.ready()), asyncio.create_task(health.ready())
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert (await second).ok


async def test_a_report_grows_old() -> None:
    answers = [(True, ""), (False, "gone")]
    health = Health(max_age=0)
    health.add("x", lambda: answers.pop(0))
    assert (await health.ready()).ok
    assert not (await health.ready()).ok


async def test_a_draining_process_is_not_ready() -> None:
    health = Health()
    assert (await health.ready()).ok
    health.draining = True
    assert not (await health.ready()).ok
