"""The clients that docs/clients.md names, and how they are installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clients.tools import install_npm, install_pip, require, require_all

PROGRAMS = Path(__file__).parent / "streams"


@dataclass(frozen=True)
class Client:
    """One client in one version.

    Attributes:
        name: its name in the table; with the version if it runs in several.
        program: a file of streams/.
        settings: names of settings, each with whether the client never sends an increment twice with them.
        arguments: further arguments of the program.
        commands: the programs that have to be on the PATH.
        debian: the Debian packages that contain them.
        pip: Python packages that are installed for its tests.
        npm: packages of node.js that are installed for its tests.
        always: whether it needs no installation, so that its tests always run.
        front: the balancer between it and the node.
    """

    name: str
    program: str
    settings: Mapping[str, bool]
    arguments: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    debian: str = ""
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    always: bool = False
    front: str | None = None

    def command(self) -> list[str]:
        """The program with its interpreter, without its arguments."""
        interpreter = {".py": [sys.executable, "-B"], ".js": ["node"], ".php": ["php"]}[Path(self.program).suffix]
        return [*interpreter, str(PROGRAMS / self.program)]

    def install(self, folder: Path) -> dict[str, str]:
        """Make it usable.

        Returns:
            The environment that the program needs.

        Raises:
            Missing: it can't be installed.
        """
        require(self.commands, self.debian)
        if not self.always:
            require_all()
        if self.pip:
            return install_pip(folder, *self.pip)
        if self.npm:
            return install_npm(folder, *self.npm)
        return {}


# These clients send nothing twice; the advised settings only limit the time.
_EXACT = {"default": True, "advised": True}
_RETRYING = {"default": False, "advised": True}
_EXACT_OR_RETRYING = {"default": True, "retries": False}
_NODE = ("node", "npm")


def _redis_py(version: str, settings: Mapping[str, bool]) -> Client:
    return Client(f"redis-py {version}", "redis_py.py", settings, pip=(f"redis=={version}.*",))


CLIENTS = [
    Client("redis-py", "redis_py.py", _RETRYING, always=True),
    _redis_py("4.6", _EXACT),
    _redis_py("5.3", _EXACT),
    _redis_py("6.4", _RETRYING),
    _redis_py("7.4", _RETRYING),
    Client("redis-py, asyncio", "redis_py.py", _RETRYING, arguments=("asyncio",)),
    Client("valkey-py", "valkey_py.py", _EXACT, pip=("valkey",)),
    Client("ioredis 5", "ioredis.js", _RETRYING, commands=_NODE, debian="nodejs npm", npm=("ioredis@5",)),
    Client("ioredis 6", "ioredis.js", _RETRYING, commands=_NODE, debian="nodejs npm", npm=("ioredis@6",)),
    Client("node-redis 5", "node_redis.js", _EXACT, commands=_NODE, debian="nodejs npm", npm=("redis@5",)),
    Client("node-redis 6", "node_redis.js", _EXACT, commands=_NODE, debian="nodejs npm", npm=("redis@6",)),
    Client("phpredis", "phpredis.php", _EXACT, commands=("php",), debian="php-cli php-redis"),
    Client("httpx2", "httpx_client.py", _EXACT, arguments=("httpx2",), always=True),
    Client("httpx", "httpx_client.py", _EXACT, arguments=("httpx",), pip=("httpx",)),
    Client("requests", "requests_client.py", {**_EXACT, "retries": False}, pip=("requests",)),
    Client("fetch of node.js", "fetch.js", _EXACT, commands=("node",), debian="nodejs", always=True),
    Client("undici", "undici.js", _EXACT, commands=_NODE, debian="nodejs npm", npm=("undici",)),
    Client(
        "curl",
        "curl.py",
        {**_RETRYING, "retries": False},
        commands=("curl",),
        debian="curl",
        always=True,
    ),
    Client(
        "HAProxy before httpx2",
        "httpx_client.py",
        _EXACT_OR_RETRYING,
        arguments=("httpx2",),
        commands=("haproxy",),
        debian="haproxy",
        front="haproxy",
    ),
    Client(
        "nginx before httpx2",
        "httpx_client.py",
        _EXACT_OR_RETRYING,
        arguments=("httpx2",),
        commands=("nginx",),
        debian="nginx-light",
        front="nginx",
    ),
]
