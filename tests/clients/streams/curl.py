"""curl: ten increments in each process, as a script or libcurl sends them over one connection."""

import shlex
import subprocess
import time

from stream import SECONDS, SETTINGS, URL

EACH = 10
NOT_SENT = 7  # no connection

command = ["curl", "-s", "-w", "%{stderr}%{exitcode} %{http_code} %{content_type}\\n", "-d", "1"]
if SETTINGS != "default":
    command += shlex.split("-H 'Connection: close' --connect-timeout 1 --max-time 3")
if SETTINGS == "retries":
    command += ["--retry", "3"]
command += ["-o", "/dev/null", URL] * EACH

version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
print("version", version, flush=True)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    curl = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert curl.stderr is not None
    for line in curl.stderr:
        code, status, kind = line.split(" ", 2)
        if code == "0" and status == "200":
            print("ok", flush=True)
        else:
            answered = code == "0" and kind.startswith("application/problem+json") and status != "500"
            print("error" if answered or int(code) == NOT_SENT else "unknown", line.strip(), flush=True)
    if curl.wait() != 0:
        time.sleep(0.05)
