"""The routes that tests/components.rs asks of a component of every language, here with componentize-py: coroutines on the
event loop that it brings along (`poll_loop`), which waits with wasi:io/poll.
"""

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Ok
from poll_loop import PollLoop, Sink, Stream, register
from wit_world import exports
from wit_world.imports import environment, monotonic_clock
from wit_world.imports.types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam

PATTERN = bytes(range(256)) * 256


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer(request, response_out))


async def answer(request, out):
    url = urlsplit(request.path_with_query() or "/")
    query = parse_qs(url.query)
    number = lambda name: int(query.get(name, ["0"])[0])
    match url.path:
        case "/":
            await text(out, "hello from Python\n")
        case "/echo":
            await echo(request, out)
        case "/stream":
            await lines(out, number("n"), number("ms"))
        case "/wait":
            await sleep(number("ms"))
            await text(out, "waited\n")
        case "/trailers":
            await trailers(out)
        case "/json":
            await numbers(request, out)
        case "/env":
            await text(out, dict(environment.get_environment()).get("GREETING", ""))
        case "/log":
            print("to standard output")
            print("to standard error", file=sys.stderr)
            await text(out, "logged\n")
        case "/crash":
            raise RuntimeError("asked to crash")
        case "/big":
            await big(out, number("bytes"))
        case "/spin":
            while True:
                pass
        case "/hoard":
            hoard = []
            while True:
                hoard.append(b"\1" * (1 << 20))
        case _:
            start(out, 404, {}).close()


def start(out, status, headers):
    """Sends the head; the sink takes the body."""
    response = OutgoingResponse(Fields.from_list([(name, value.encode()) for name, value in headers.items()]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    return Sink(body)


async def text(out, body, status=200):
    sink = start(out, status, {"content-type": "text/plain"})
    await sink.send(body.encode())
    sink.close()


async def sleep(ms):
    await register(asyncio.get_event_loop(), monotonic_clock.subscribe_duration(ms * 1_000_000))


async def echo(request, out):
    """The body goes through as it comes."""
    kind = request.headers().get("content-type")
    sink = start(out, 200, {"content-type": kind[0].decode()} if kind else {})
    stream = Stream(request.consume())
    while (chunk := await stream.next()) is not None:
        await sink.send(chunk)
    sink.close()


async def lines(out, n, ms):
    sink = start(out, 200, {"content-type": "text/plain"})
    for line in range(1, n + 1):
        await sleep(ms)
        await sink.send(f"line {line}\n".encode())
    sink.close()


async def trailers(out):
    sink = start(out, 200, {"content-type": "text/plain", "trailer": "x-bytes"})
    await sink.send(b"body\n")
    # What `sink.close` does, but with trailers.
    sink.stream.__exit__(None, None, None)
    OutgoingBody.finish(sink.body, Fields.from_list([("x-bytes", b"5")]))


async def numbers(request, out):
    stream, body = Stream(request.consume()), b""
    while (chunk := await stream.next()) is not None:
        body += chunk
    try:
        given = json.loads(body)["numbers"]
    except (ValueError, KeyError, TypeError):
        await text(out, "no numbers\n", status=400)
        return
    sink = start(out, 200, {"content-type": "application/json"})
    await sink.send(json.dumps({"sum": sum(given), "count": len(given)}).encode())
    sink.close()


async def big(out, left):
    """Byte i is i % 256. `send` waits until the piece before has been taken."""
    sink = start(out, 200, {"content-type": "application/octet-stream"})
    while left > 0:
        piece = PATTERN[:left]
        await sink.send(piece)
        left -= len(piece)
    sink.close()
