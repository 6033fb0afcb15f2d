"""`gcount-node`: starts a node; its settings, signals and exit codes."""

import os
import signal

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# Programs send these signals to a daemon so that it reads its settings or opens its log file again (logrotate does). A
# terminal sends SIGHUP when it is closed. A node has no settings file and no log file: it logs the signal and goes on.
PASSED_OVER = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_early: list[int] = []  # the signals that came before the node could log them

# These handlers work during the slow imports, and again when the node has ended. The process may end at once then:
# everything that was acknowledged is on disk.
for _number in STOPPING:
    signal.signal(_number, lambda _number, _frame: os._exit(0))
for _number in PASSED_OVER:
    signal.signal(_number, lambda number, _frame: _early.append(number))

# If a standard stream is closed, the next file that is opened gets its number. That could be the log, and what is
# written to the stream would go into the log. So the three numbers are taken first.
while (_descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
    pass
os.close(_descriptor)

# ruff: noqa: E402
import gc
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

import structlog
import trio

from gcount import settings
from gcount.cluster.links.dialer import WebsocketTransport
from gcount.core.options import DEFAULTS, Options
from gcount.errors import Fatal, leaves
from gcount.events import Stopping
from gcount.http.app import make_app
from gcount.http.fast_path import FastPath
from gcount.http.hypercorn import HttpService
from gcount.net.connection_pool import ConnectionPool
from gcount.net.descriptors import shares_of_process
from gcount.net.listeners import open_listeners
from gcount.node.node import Node, open_node
from gcount.observe import logs
from gcount.redis.commands import COMMANDS
from gcount.redis.service import RedisService
from gcount.server import serve
from gcount.settings import Settings, UsageError
from gcount.storage.disk import RealDisk
from gcount.version import VERSION

# Seconds after a signal. Then the process ends even if a thread hangs: everything that was acknowledged is on disk.
EXIT_WITHIN = 2.5
# Seconds after which a busy event loop lets the log's thread run. With Python's default of 5 ms, a sync of 0.2 ms would
# take several milliseconds, and so would each group commit.
SWITCH_INTERVAL = 0.0001

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def main(argv: Sequence[str], *, options: Options = DEFAULTS, open_disk: Callable[[Path], RealDisk] = RealDisk) -> int:
    """Run a node until a signal stops it.

    Args:
        argv: the arguments after the program's name.
        options: sizes, limits and pauses; benchmarks and tests make some of them small.
        open_disk: opens the data directory; benchmarks replace it to change how the disk behaves.

    Returns:
        The exit code: 0 after SIGTERM, SIGINT or SIGQUIT, 1 when the node can't go on, 2 for bad settings.
    """
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    try:
        chosen = settings.parse(argv, os.environ)
    except UsageError as error:
        return _say(f"gcount-node: error: {error}", 2)
    except Fatal as error:
        return _say(f"gcount-node: {error}", 1)
    logs.configure(chosen.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        disk = open_disk(chosen.data_dir)
        try:
            trio.run(_run, chosen, disk, options)
        finally:
            disk.close()
    except Fatal as error:
        return _say(f"gcount-node: {error}", 1)
    except BaseExceptionGroup as group:
        fatal = group.subgroup(Fatal)
        if fatal is None:
            raise
        return _say(f"gcount-node: {leaves(fatal)[0]}", 1)
    return 0


def run() -> int:
    """Entry point of the `gcount-node` script of an installed package.

    Returns:
        The exit code.
    """
    return main(sys.argv[1:])


def _say(line: str, code: int) -> int:
    with suppress(OSError):  # standard error may be closed
        print(line, file=sys.stderr, flush=True)
    return code


async def _run(chosen: Settings, disk: RealDisk, options: Options) -> None:
    listeners = await open_listeners(chosen)
    port = int(listeners[0].socket.getsockname()[1])
    chosen = replace(chosen, port=port)
    shares = shares_of_process(chosen.max_connections, len(listeners))
    connections = ConnectionPool(shares.connections, max_links=shares.links)
    stopping = Stopping()
    transport = WebsocketTransport(chosen.host, port, shares.dials)
    trio.to_thread.current_default_thread_limiter().total_tokens = shares.lookups  # the log has threads of its own
    async with (
        open_node(
            chosen, disk, transport, random=SystemRandom(), wall_clock=time.time, options=options, stopping=stopping
        ) as node,
        trio.open_nursery() as nursery,
    ):
        node.metrics.watch(connections.gauges)
        nursery.start_soon(_announce, node)
        nursery.start_soon(_heed_signals, stopping)
        http = HttpService(make_app(node), FastPath(node) if chosen.fast_path else None)
        await serve(http, listeners, connections, shutdown=stopping.event, redis=RedisService(node, COMMANDS))
        nursery.cancel_scope.cancel()


async def _announce(node: Node) -> None:
    await node.wait_ready()
    # The objects that a start makes stay. A search for garbage among those of a million counters would stop the event
    # loop for 40 to 80 ms.
    gc.freeze()
    logger.info(f"ready on http://{node.listens_on}", id=node.settings.node_id, version=VERSION)


async def _heed_signals(stopping: Stopping) -> None:
    with trio.open_signal_receiver(*STOPPING, *PASSED_OVER) as signals:
        for number in _early:
            _pass_over(number)
        async for number in signals:
            if number in PASSED_OVER:
                _pass_over(number)
            elif not stopping.is_set:  # a second signal changes nothing
                logger.info("stopping", signal=signal.Signals(number).name)
                _exit_at_the_latest(EXIT_WITHIN)
                stopping.set()


def _pass_over(number: int) -> None:
    logger.info("signal ignored", signal=signal.Signals(number).name, effect="none, the node goes on")


def _exit_at_the_latest(seconds: float) -> None:
    """End the process after a time, by a thread: nothing on the event loop can end a system call that hangs.

    Args:
        seconds: from now.
    """
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
