"""What a command is executed with: its words, its client, and what it may ask of the turn, the node and the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import trio

from gcount.core.state.counters import Digest
from gcount.node.view import NodeView
from gcount.redis.outbox import Pool
from gcount.redis.resp import Words
from gcount.redis.transaction import Transaction
from gcount.redis.turn import Pieces, SessionTurn

_PIECES_AT_ONCE: Final = 20


class Client:
    """What is known of a client, most of it because it said so.

    Attributes:
        id: no other client of this start has it.
        name: what it calls itself.
        library: what it says that it was made with, and which version of that.
        closing: whether nothing is answered any more.
        acknowledged: the position that holds all increments that it was told of.
        transaction: what it has asked for since MULTI.
        unguarded: whether a WATCH was refused, so that the next transaction can't be executed.
    """

    def __init__(self, number: int) -> None:
        self.id = number
        self.name = b""
        self.library = (b"", b"")
        self.closing = False
        self.acknowledged: Digest = {}
        self.transaction: Transaction | None = None
        self.unguarded = False

    def end_transaction(self) -> None:
        """It has no transaction any more."""
        self.transaction, self.unguarded = None, False

    def skip(self, name: str, version: int) -> None:
        """A command of that name is not executed: nor is a transaction that it begins, ends, guards or belongs to."""
        if self.transaction is None and name == "MULTI":
            self.transaction = Transaction(version)
        if self.transaction is not None:
            self.transaction.fail()
        elif name == "WATCH":
            self.unguarded = True
        if name in ("EXEC", "DISCARD", "RESET"):
            self.transaction = None


class ClientStatistics(NamedTuple):
    """A client and its connection as CLIENT LIST shows them.

    Args:
        id, name, library: as in `Client`.
        address, local_address: of both ends of its connection, HOST:PORT; empty when it is gone already.
        descriptor: of its socket.
        age, idle: seconds since it connected, and since it was answered last.
        queued: commands in its transaction; None without one.
        queued_bytes: of memory that they take.
        kept: bytes of memory that its input takes beyond what each client may take.
        unsent: bytes of answers that it has not taken.
        last: the command that it asked for last.
        version: of RESP.
    """

    id: int
    name: bytes
    library: tuple[bytes, bytes]
    address: str
    local_address: str
    descriptor: int
    age: float
    idle: float
    queued: int | None
    queued_bytes: int
    kept: int
    unsent: int
    last: str
    version: int


class Connected(Protocol):
    """A client that is connected."""

    def statistics(self) -> ClientStatistics:
        """What it is and what it does now."""


class Shared:
    """What all clients share.

    Args:
        clients: those that are connected, by their ids.

    Attributes:
        kept: bytes of memory that the input of all clients takes, see `Inbox.kept`.
        unsent: what the answers take that their clients have not taken yet.
        commands: how many were answered, by name, and whether they failed.
        received: how many clients there were.
        blocked: how many clients wait for others now.
        listing: held by the one command that collects what takes much memory until it is an answer.
    """

    def __init__(self, clients: Mapping[int, Connected]) -> None:
        self.clients = clients
        self.kept = 0
        self.unsent = Pool()
        self.commands: Counter[tuple[str, bool]] = Counter()
        self.received = self.blocked = 0
        self.listing = trio.Lock()

    async def join(self, reply: Pieces) -> bytes:
        """Make a reply of its pieces while others get their turn."""
        async with self.listing:
            pieces: list[bytes] = []
            for piece in reply.pieces:
                pieces.append(piece)
                if len(pieces) % _PIECES_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            return reply.render(b"".join(pieces))


@dataclass(slots=True, eq=False)
class Call:
    """A command that a client wants to be executed.

    Args:
        words: the command's name, as the client wrote it, and its arguments, as many as `Command.arity` allows.
        client: whose it is.
        turn: what the client's commands stage, and which version of RESP their answers are written in.
        node: what can be asked of the node.
        shared: what can be asked about all clients.
        while_connected: waits for something for as long as the client stays.
    """

    words: Words
    client: Client
    turn: SessionTurn
    node: NodeView
    shared: Shared
    while_connected: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]
