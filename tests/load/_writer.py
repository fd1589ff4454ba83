"""A client that writes at a steady rate, whatever the server does, and says how long each write took."""

import asyncio
import statistics
from collections.abc import Callable
from urllib.parse import urlsplit

__all__ = ["percentile", "write_steadily"]

CONNECTIONS = 16


async def write_steadily(
    url: str, path: str, body: Callable[[int], bytes], *, rate: float, seconds: float
) -> list[float]:
    """POST bodies one after the other at fixed times.

    A write that is late because the server kept all connections busy counts from when it should have been sent, so a
    stall is not hidden by the writes that it held back.

    Parameters
    ----------
    body
        Makes the JSON of a number.
    rate
        Writes a second.

    Returns
    -------
    list
        Seconds until the answer of each.

    Raises
    ------
    RuntimeError
        An answer is not 201.
    """
    address = urlsplit(url)
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(address.hostname, address.port))
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def post(number: int, due: float) -> float:
        content = body(number)
        head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        reader, writer = await free.get()
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        length = next(line for line in rest.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = await reader.readexactly(int(length.partition(b":")[2]))
        took = loop.time() - due
        if b" 201 " not in status:
            raise RuntimeError(f"POST {path}: {status.decode()} {answer[:500]!r}")
        free.put_nowait((reader, writer))
        return took

    async with asyncio.TaskGroup() as tasks:
        posts = []
        for number in range(round(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(due - loop.time())
            posts.append(tasks.create_task(post(number, due)))
    while not free.empty():
        _, writer = free.get_nowait()
        writer.close()
        await writer.wait_closed()
    return [each.result() for each in posts]


def percentile(figures: list[float], which: int) -> float:
    """Return the 1st to 99th percentile."""
    return statistics.quantiles(figures, n=100, method="inclusive")[which - 1]
