"""Chromium without a window, driven by its DevTools protocol: it opens pages and runs scripts in them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
import trio_websocket

from tests.harness.waiting import eventually

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_LISTENING = re.compile(r"DevTools listening on (ws://\S+)")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with a sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
PATIENCE = 60.0  # seconds


class Page:
    """One tab."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None

    async def attach(self) -> None:
        """Open an empty tab."""
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    async def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        answer = await self._call("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer}"

        async def loaded() -> str | None:
            now = await self.run("[location.href, document.readyState].join(' ')")
            return None if now == f"{url} complete" else f"still at {now}"

        await eventually(loaded, PATIENCE)

    async def run(self, script: str) -> Any:
        """The value of an expression, after its promise is resolved."""
        answer = await self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer}"
        return answer["result"].get("value")

    async def _call(self, method: str, **params: Any) -> Any:
        message: dict[str, Any] = {"id": next(self._numbers), "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        with trio.fail_after(PATIENCE):
            await self._socket.send_message(json.dumps(message))
            while True:
                answer = json.loads(await self._socket.get_message())
                if answer.get("id") == message["id"]:
                    assert "error" not in answer, f"{method}: {answer}"
                    return answer["result"]


@contextmanager
def _started(folder: Path, rules: str) -> Iterator[Callable[[], str]]:
    """A running Chromium; the function returns what it has written to standard error so far."""
    assert CHROMIUM is not None
    folder.mkdir()
    written = folder / "stderr"
    command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules={rules}"]
    with written.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "HOME": str(folder)},
            start_new_session=True,
        )
    try:
        yield lambda: written.read_text("utf-8", "replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with its children
        process.wait()


@asynccontextmanager
async def page(folder: Path, *names: str) -> AsyncIterator[Page]:
    """A tab of a new Chromium.

    Args:
        folder: a folder for its files.
        names: names of hosts that lead to 127.0.0.1.
    """
    with _started(folder, ", ".join(f"MAP {name} 127.0.0.1" for name in names)) as written:

        async def listening() -> str | None:
            return None if _LISTENING.search(written()) else f"Chromium is not up: {written()}"

        await eventually(listening, PATIENCE)
        found = _LISTENING.search(written())
        assert found is not None
        async with trio_websocket.open_websocket_url(found[1], max_message_size=1 << 24) as socket:
            made = Page(socket)
            await made.attach()
            yield made
