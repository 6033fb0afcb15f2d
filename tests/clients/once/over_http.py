"""Increments with ids by Python's own HTTP client: `over_http.py PORT NAME`, until standard input ends.

The last line is the number of increments. Each was sent until it was acknowledged, with one id.
"""

import http.client
import secrets
import sys
import threading
import time

port, name = int(sys.argv[1]), sys.argv[2]
done = threading.Event()


def wait() -> None:
    sys.stdin.read()
    done.set()


threading.Thread(target=wait, daemon=True).start()


def acknowledged(headers: dict[str, str]) -> bool:
    """Send an increment; whether it was acknowledged."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("POST", f"/counter/{name}", "1", headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


counted = 0
while not done.is_set():
    headers = {"Idempotency-Key": f"{int(time.time())}-{secrets.token_hex(8)}"}
    while not acknowledged(headers):
        time.sleep(0.02)
    counted += 1
print(counted)
