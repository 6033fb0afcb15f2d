"""The context of a command: its words, its client, and what it may ask of the turn, the node and the other clients."""

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
    """What the node knows of a client. The client itself has told most of it.

    Attributes:
        id: a number that no other client of this start of the node has.
        name: the name that the client has given itself; empty without one.
        library: the client's library and its version, as the client names them.
        closing: whether the session is ending: no further command is answered.
        acknowledged: the position (a digest) that contains all increments which were acknowledged to the client.
        transaction: its transaction since MULTI; None without one.
        unguarded: whether a WATCH was refused, so that the next transaction must not be executed.
    """

    def __init__(self, number: int) -> None:
        self.id = number
        self.name = b""
        self.library = (b"", b"")
        self.closing = False
        self.acknowledged: Digest = {}
        self.transaction: Transaction | None = None
        self.unguarded = False

    def acknowledge(self, position: Digest) -> None:
        """Note that increments are acknowledged to the client.

        Args:
            position: a replica whose digest reaches it holds them. It may be older than an earlier one: an increment
                whose id is known rests on the commit that counted it.
        """
        acknowledged = self.acknowledged
        for incarnation, version in position.items():
            if version > acknowledged.get(incarnation, 0):
                acknowledged[incarnation] = version

    def end_transaction(self) -> None:
        """End the transaction, executed or not."""
        self.transaction, self.unguarded = None, False

    def skip(self, name: str, version: int) -> None:
        """Note that a command was not executed. Then no transaction is executed to which the command matters.

        Such a command begins the transaction, ends it, guards it, or belongs to it.

        Args:
            name: the command's name.
            version: the version of RESP, for a transaction that the command would have begun.
        """
        if self.transaction is None and name == "MULTI":
            self.transaction = Transaction(version)
        if self.transaction is not None:
            self.transaction.fail()
        elif name == "WATCH":
            self.unguarded = True
        if name in ("EXEC", "DISCARD", "RESET"):
            self.transaction = None


class ClientStatistics(NamedTuple):
    """A client and its connection, as CLIENT LIST shows them.

    Args:
        id: as in `Client`.
        name: as in `Client`.
        library: as in `Client`.
        address: HOST:PORT of the client; empty if it has left already.
        local_address: HOST:PORT of the node's end of the connection; empty if the client has left already.
        descriptor: the descriptor of its socket.
        age: seconds since it connected.
        idle: seconds since its last answer.
        queued: the number of commands in its transaction; None without one.
        queued_bytes: the bytes of memory that these commands take.
        kept: the bytes of memory that its input takes, beyond what each client may always take.
        unsent: the bytes of answers that the client has not taken.
        last: the name of its last command.
        version: the version of RESP.
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
        """The client and what it does now."""


class Shared:
    """What all clients share.

    Args:
        clients: the clients that are connected, by their ids.

    Attributes:
        kept: the bytes of memory that the input of all clients takes, see `Inbox.kept`.
        unsent: the memory of answers that their clients have not taken yet.
        commands: the number of commands that were answered, by name and by whether they failed.
        received: how many clients have connected since the start.
        blocked: how many clients wait for other members now.
        listing: a lock for commands that need much memory to make their answer, so that one at a time does.
    """

    def __init__(self, clients: Mapping[int, Connected]) -> None:
        self.clients = clients
        self.kept = 0
        self.unsent = Pool()
        self.commands: Counter[tuple[str, bool]] = Counter()
        self.received = self.blocked = 0
        self.listing = trio.Lock()

    async def join(self, reply: Pieces) -> bytes:
        """Make a reply of its pieces, and let other tasks run between them."""
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
        client: the client.
        turn: the turn in which the command is executed.
        node: the node, as commands see it.
        shared: what all clients share.
        while_connected: calls an async function, and cancels it if the client leaves.
    """

    words: Words
    client: Client
    turn: SessionTurn
    node: NodeView
    shared: Shared
    while_connected: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]
