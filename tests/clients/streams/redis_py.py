"""redis-py, or its asyncio client if the fifth argument says so."""

import asyncio
import sys
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from stream import NAME, PORT, SETTINGS, refused, stream


def told(error: Exception) -> str:
    answered = isinstance(error, redis.ResponseError)
    return "error" if answered or refused(error) else "unknown"


def main() -> None:
    if sys.argv[5:] == ["asyncio"]:
        return asynchronous()
    port = PORT
    if SETTINGS == "default":
        client: Any = redis.Redis(port=port)
    else:
        client = redis.Redis(port=port, socket_timeout=3, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
    return stream(redis.__version__, lambda: client.incr(NAME), told)


def asynchronous() -> None:
    from redis.asyncio.retry import Retry

    port = PORT
    if SETTINGS == "default":
        client: Any = redis.asyncio.Redis(port=port)
    else:
        client = redis.asyncio.Redis(port=port, socket_timeout=3, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
    with asyncio.Runner() as runner:
        stream(redis.__version__, lambda: runner.run(client.incr(NAME)), told)


main()
