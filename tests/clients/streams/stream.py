"""The common part of the programs in Python: increments one after the other, and the outcome of each.

The arguments of every program here are the port, the name of the counter, the settings, and the seconds. It prints
`version ...`, then a line for each increment: `ok`; `error ...` if it was certainly not counted; or `unknown ...`.
"""

import sys
import time
from collections.abc import Callable

PORT, NAME, SETTINGS, SECONDS = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
URL = f"http://127.0.0.1:{PORT}/counter/{NAME}"


def stream(version: str, increment: Callable[[], None], told: Callable[[Exception], str]) -> None:
    """Count until the time is over; `told` makes the first word of the line for an error."""
    print("version", version, flush=True)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            increment()
        except Exception as error:
            print(told(error), type(error).__name__, " ".join(str(error).split()), flush=True)
            time.sleep(0.05)
        else:
            print("ok", flush=True)
            time.sleep(0.001)


def refused(error: BaseException | None) -> bool:
    """Whether there was no connection."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


class Refused(Exception):
    """The node, or a balancer, answered with an error."""


def told_by_answer(status: int, kind: str) -> None:
    """Raise `Refused` for an answer that is not 200; its text begins with `error` or `unknown`."""
    if status != 200:
        ours = kind.startswith("application/problem+json") and status != 500
        raise Refused(f"{'error' if ours else 'unknown'} {status} {kind}")
