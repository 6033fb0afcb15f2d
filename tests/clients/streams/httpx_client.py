"""httpx, or httpx2, which the fifth argument names."""

import importlib
import sys
from typing import Any

from stream import SETTINGS, URL, Refused, stream, told_by_answer

httpx: Any = importlib.import_module(sys.argv[5])


def told(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error).split()[0]
    not_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    return "error" if isinstance(error, not_sent) else "unknown"


client = httpx.Client()
if SETTINGS == "advised":
    client = httpx.Client(timeout=httpx.Timeout(3, connect=1))


def increment() -> None:
    answer = client.post(URL, content=b"1")
    told_by_answer(answer.status_code, answer.headers.get("content-type", ""))


stream(httpx.__version__, increment, told)
