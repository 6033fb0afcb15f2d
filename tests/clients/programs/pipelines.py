"""redis-py, or a library made after it, as its users write it: `pipelines.py MODULE PORT COMMANDS`; prints JSON."""

import asyncio
import importlib
import json
import sys
from typing import Any

module, port, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
library: Any = importlib.import_module(module)
library_asyncio: Any = importlib.import_module(f"{module}.asyncio")
Client = getattr(library, module.capitalize())
ResponseError = library.exceptions.ResponseError
NOTHING = "nothing was refused"


def refused(work: Any) -> str:
    try:
        work()
    except ResponseError as error:
        return str(error)
    return NOTHING


def blocking() -> dict[str, Any]:
    found: dict[str, Any] = {}
    client = Client(port=port, decode_responses=True)
    pipe = client.pipeline()
    found["transaction"] = pipe.incr("a").incrby("a", 5).get("a").mget("a", "none").execute()
    found["wrong"] = refused(client.pipeline().incr("vote").set("vote", 1).execute)
    found["wrong, after"] = client.get("vote")
    found["again"] = client.pipeline().incr("vote").execute()
    for _ in range(many // 10):
        pipe.incr("queued")
    found["a long transaction"] = pipe.execute() == list(range(1, many // 10 + 1))
    plain = client.pipeline(transaction=False)
    for _ in range(many):
        plain.incr("piped")
    found["a long pipeline"] = plain.execute() == list(range(1, many + 1))
    for _ in range(600):
        plain.echo("x" * 60_000)
        plain.incr("echoes")
    answers = plain.execute(raise_on_error=False)
    counted = [answer for answer in answers[1::2] if isinstance(answer, int)]
    errors = {str(answer) for answer in answers if isinstance(answer, ResponseError)}
    found["too much at once"] = [counted == list(range(1, len(counted) + 1)), 0 < len(counted) < 600, *errors]
    found["too much at once, after"] = client.incr("echoes") == len(counted) + 1
    found["watch"] = refused(lambda: client.pipeline().watch("a"))
    after = refused(client.pipeline().incr("watched").execute)  # on the same connection, or on another one
    found["watch, after"] = client.get("watched") == ("1" if after == NOTHING else None)
    found["watch, again"] = len(client.pipeline().incr("watched").execute())
    return found


async def cooperative() -> dict[str, Any]:
    found: dict[str, Any] = {}
    client = getattr(library_asyncio, module.capitalize())(port=port, decode_responses=True)

    async def one() -> list[int]:
        async with client.pipeline() as pipe:
            answers: list[int] = await pipe.incr("shared").incr("shared").execute()
            return answers

    answers = sorted(await asyncio.gather(*(one() for _ in range(20))))
    found["transactions at once"] = answers == [[n, n + 1] for n in range(1, 41, 2)]
    pipe = client.pipeline(transaction=False)
    for _ in range(many // 10):
        pipe.incr("async")
    found["a long pipeline"] = await pipe.execute() == list(range(1, many // 10 + 1))
    close = getattr(client, "aclose", client.close)  # some releases have only one of them
    await close()
    return found


print(json.dumps({"blocking": blocking(), "asyncio": asyncio.run(cooperative())}))
