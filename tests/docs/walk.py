"""A walk through a page: all commands of the page are typed, in order, and their output is compared with the page.

The walk has a folder of its own, in which `bin/` starts the real launchers. Ports and folders of the page are replaced
by free ones, and put back into the output of the commands.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.clients.chromium import CHROMIUM, page
from tests.clients.tools import find
from tests.docs.pages import Block, Command, blocks, commands, matches
from tests.docs.shell import PATIENCE, Shell, shell
from tests.harness.cluster import free_port
from tests.harness.processes import LAUNCHER, READY, REPOSITORY, clean_environment
from tests.harness.waiting import eventually

HOSTS = [f"127.0.0.{number}" for number in range(1, 5)]
NODE_PORT, FRONT_PORT = "7777", "8080"
FOLDERS = ("/var/lib/gcount", "/var/backups/gcount", "/etc/systemd/system", "/etc/prometheus")
PROJECT = "/opt/gcount"  # the project's folder on a page; in the walk it is the walk's folder
LOG_WITHIN = 10.0  # seconds
# A reader takes a moment to type the next command. A page may rely on it that the nodes have exchanged their news by
# then (which takes milliseconds).
TYPING = 0.2  # seconds

# Data has to be in the walk's folder, not in that of the project.
_NODE = """#!/bin/sh
case ${{1:-}} in [0-9]*) id=$1 ;; *) id=1 ;; esac
export GCOUNT_DATA_DIR="${{GCOUNT_DATA_DIR:-{folder}/data/$id}}"
exec {launcher} "$@"
"""
_TOOL = '#!/bin/sh\nexec {launcher} "$@"\n'
_CURLRC = 'silent\nshow-error\nnoproxy = "*"\n'


class WrongPage(AssertionError):
    """Something else happens than the page shows."""


@dataclass
class Walk:
    """The result of a page.

    Attributes:
        done: how many blocks were run, saved or compared in a browser.
        left_out: for each block that was left out, which programs are not installed.
    """

    done: int = 0
    left_out: list[str] = field(default_factory=list)


async def walk(text: str, name: str, folder: Path) -> Walk:
    """Do everything that a page tells its reader to do.

    Args:
        text: the page.
        name: its name for messages.
        folder: an empty folder, in which everything happens.

    Raises:
        UnmarkedBlock: a block is neither run nor marked.
        WrongPage: something else happens than the page shows.
    """
    found, result, names = blocks(text, name), Walk(), _Names(folder)
    actions = [block.action for block in found]
    _furnish(folder)
    with shell(folder, _environment(folder, names)) as session:
        for block, action in zip(found, actions, strict=True):
            missing = [program for program in block.programs if find(program) is None]
            missing += ["chromium"] if action == "browse" and CHROMIUM is None else []
            if missing:
                result.left_out.append(f"{block.place}: {', '.join(missing)} not installed")
            elif action == "save":
                path = folder / names.put(block.note)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(names.put(block.text), "utf-8")
            elif action == "browse":
                await _browse(block, names, folder)
            elif action == "run":
                for command in commands(block):
                    await _type(session, block, command, names)
            result.done += not missing and action != "leave"
    return result


class _Names:
    """Ports and folders of the page, and those of the walk."""

    def __init__(self, folder: Path) -> None:
        ports = {port: str(free_port(HOSTS)) for port in (NODE_PORT, FRONT_PORT)}
        self.ports = ports
        self._put = {PROJECT: str(folder), **{path: f"{folder}{path}" for path in FOLDERS}, **ports}
        self._back = {mine: theirs for theirs, mine in ports.items()}
        self._folder = str(folder)

    def put(self, text: str) -> str:
        """The page's text with the walk's names."""
        return _replaced(text, self._put)

    def back(self, text: str) -> str:
        """The output with the page's names."""
        text = _replaced(text, {f"{self._folder}{path}": path for path in FOLDERS})
        return _replaced(text.replace(self._folder, PROJECT), self._back)


def _replaced(text: str, names: dict[str, str]) -> str:
    return re.sub(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", lambda found: names[found[0]], text)


def _furnish(folder: Path) -> None:
    (folder / ".curlrc").write_text(_CURLRC)
    for path in FOLDERS:
        (folder / path.removeprefix("/")).mkdir(parents=True)
    (folder / "bin").mkdir()
    for name, script in (("gcount-node", _NODE), ("gcount", _TOOL)):
        launcher = LAUNCHER if name == "gcount-node" else REPOSITORY / "bin" / name
        (folder / "bin" / name).write_text(script.format(folder=folder, launcher=launcher))
        (folder / "bin" / name).chmod(0o755)


def _environment(folder: Path, names: _Names) -> dict[str, str]:
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    own = {"HOME": str(folder), "CURL_HOME": str(folder), "LC_ALL": "C.UTF-8", "PATH": os.pathsep.join(programs)}
    own |= {"no_proxy": "*", "FAKETTY": "1"}  # redis-cli prints what it prints in a terminal
    return clean_environment({**own, "GCOUNT_LISTEN": f"0.0.0.0:{names.ports[NODE_PORT]}"})


async def _type(session: Shell, block: Block, command: Command, names: _Names) -> None:
    where = f"{block.place}: {command.text}"
    typed = names.put(command.text)
    if typed.endswith("&"):
        log = await session.start(typed)
        await _wait_for_job(log, "gcount-node" in typed, names, command, where)
        return
    await trio.sleep(TYPING)
    status, printed = await session.run(typed)
    shown = names.back(printed)
    if status != 0 and not command.may_fail:
        raise WrongPage(f"{where}\nended with {status}:\n{shown}")
    if command.output is not None and not matches(command.output, shown):
        raise WrongPage(f"{where}\nthe page shows:\n{command.output}\nbut it prints:\n{shown}")


async def _wait_for_job(log: Path, is_node: bool, names: _Names, command: Command, where: str) -> None:
    """Wait until a node is ready or another program listens, and until it has printed what the page shows."""

    def printed() -> str:
        return names.back(log.read_text("utf-8", "replace"))

    async def up() -> str | None:
        if is_node:
            return None if READY.search(printed()) else f"{where}\nno node is ready:\n{printed()}"
        with suppress(OSError):
            await (await trio.open_tcp_stream(HOSTS[0], int(names.ports[FRONT_PORT]))).aclose()
            return None
        return f"{where}\nnothing listens on port {FRONT_PORT}:\n{printed()}"

    async def shown() -> str | None:
        expected = command.output
        return None if not expected or matches(expected, printed()) else f"{where}\nprinted:\n{printed()}"

    await _within(up, PATIENCE)
    await _within(shown, LOG_WITHIN)


async def _within(check: Callable[..., object], seconds: float) -> None:
    try:
        await eventually(check, seconds)  # type: ignore[arg-type]
    except AssertionError as error:
        raise WrongPage(str(error)) from None


async def _browse(block: Block, names: _Names, folder: Path) -> None:
    """Open an address, and wait until the text is there."""
    url = names.put(block.note)
    async with page(folder / f".browser-{block.place.rpartition(':')[2]}") as tab:
        await tab.open(url)

        async def shows() -> str | None:
            text = names.back(str(await tab.run("document.body.innerText")))
            return None if matches(block.text, text) else f"{block.place}: {block.note} shows:\n{text}"

        await _within(shows, LOG_WITHIN)
