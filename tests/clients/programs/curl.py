"""curl: ten increments in each process, as a script or libcurl does that uses a connection again."""

import subprocess
import time

from stream import SECONDS, SETTINGS, URL

EACH = 10
NOT_SENT = 7  # no connection

lines = ["silent", 'data = "1"', 'write-out = "%{stderr}%{exitcode} %{http_code} %{content_type}\\n"']
if SETTINGS == "advised":
    lines += ['header = "Connection: close"', "connect-timeout = 1", "max-time = 3"]
elif SETTINGS == "retries":
    lines += ['header = "Connection: close"', "connect-timeout = 1", "max-time = 3", "retry = 3"]
lines += [f'url = "{URL}"', 'output = "/dev/null"'] * EACH

version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
print("version", version, flush=True)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    curl = subprocess.Popen(["curl", "-K", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert curl.stdin is not None
    assert curl.stderr is not None
    curl.stdin.write("\n".join(lines))
    curl.stdin.close()
    for line in curl.stderr:
        code, status, kind = line.split(" ", 2)
        if code == "0" and status == "200":
            print("ok", flush=True)
        else:
            answered = code == "0" and kind.startswith("application/problem+json") and status != "500"
            print("error" if answered or int(code) == NOT_SENT else "unknown", line.strip(), flush=True)
    if curl.wait() != 0:
        time.sleep(0.05)
