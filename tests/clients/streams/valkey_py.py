"""valkey-py."""

from typing import Any

import valkey
from stream import NAME, PORT, SETTINGS, refused, stream
from valkey.backoff import NoBackoff
from valkey.retry import Retry


def told(error: Exception) -> str:
    answered = isinstance(error, valkey.ResponseError)
    return "error" if answered or refused(error) else "unknown"


port = PORT
if SETTINGS == "default":
    client: Any = valkey.Valkey(port=port)
else:
    client = valkey.Valkey(port=port, socket_timeout=3, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
stream(valkey.__version__, lambda: client.incr(NAME), told)
