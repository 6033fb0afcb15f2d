"""Increments with ids by redis-py, which retries by itself: `redis_py.py PORT NAME`, until standard input ends.

The last line is the number of increments.
"""

import secrets
import sys
import threading
import time
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

port, name = int(sys.argv[1]), sys.argv[2]
done = threading.Event()


def wait() -> None:
    sys.stdin.read()
    done.set()


threading.Thread(target=wait, daemon=True).start()

retry = Retry(ConstantBackoff(0.02), 1000)
client: Any = redis.Redis(port=port, socket_timeout=1, socket_connect_timeout=1, retry=retry)
counted = 0
while not done.is_set():
    client.execute_command("GCOUNT.INCRBY", name, 1, "ID", f"{int(time.time())}-{secrets.token_hex(8)}")
    counted += 1
print(counted)
