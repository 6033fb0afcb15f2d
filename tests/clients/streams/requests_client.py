"""requests, which uses urllib3."""

import requests
import urllib3
from requests.adapters import HTTPAdapter
from stream import SETTINGS, URL, Refused, stream, told_by_answer
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Retry


def told(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error).split()[0]
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return "error" if isinstance(reason, NewConnectionError | ConnectTimeoutError) else "unknown"


session = requests.Session()
if SETTINGS == "retries":
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, allowed_methods=None)))


def increment() -> None:
    answer = session.post(URL, data=b"1") if SETTINGS == "default" else session.post(URL, data=b"1", timeout=(1, 3))
    told_by_answer(answer.status_code, answer.headers.get("content-type", ""))


stream(f"{requests.__version__}, urllib3 {urllib3.__version__}", increment, told)
