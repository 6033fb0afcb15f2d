"""A session with a Redis client: all commands that came together share one commit.

What was read is executed at one instant, in its order: increments are staged, values are those of that instant, and no
other increment comes in between. Then the session waits for the one commit, and answers all with one send. So a client
sees its own increments, and the answers to all increments of a counter on a node are the values in their order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from gcount.core.state.increments import Outcome, Repeat
from gcount.errors import Recovering, Refusal
from gcount.net.connection import Connection
from gcount.net.responder import Responder
from gcount.node.node import Node
from gcount.node.view import NodeView
from gcount.redis import resp
from gcount.redis.command import Command, Commands, parse_names
from gcount.redis.context import Call, Client, ClientStatistics, Shared
from gcount.redis.inbox import Inbox
from gcount.redis.outbox import Outbox
from gcount.redis.resp import CommandError
from gcount.redis.transaction import aborted
from gcount.redis.turn import Pieces, Reply, SessionTurn, error_text, refusal_text

_SEND_BYTES: Final = 64 * 1024  # answers are not kept beyond
_COMMANDS_A_TURN: Final = 1024
_TRANSACTION_WITHIN: Final = 60.0  # seconds, for one that takes of the memory for all


class Session:
    """One client, while it is connected.

    Args:
        node: what counts for it.
        commands: what it may ask.
        shared: what all clients share.
        connection: the client's.
        number: no other session of this start has it.

    Attributes:
        client: what is known of the client.
        inbox: what it sent that is not executed yet.
        outbox: the answers that it has not taken yet.
    """

    def __init__(self, node: Node, commands: Commands, shared: Shared, connection: Connection, number: int) -> None:
        self.connection = connection
        self.client = client = Client(number)
        self.inbox = inbox = Inbox(connection, client, shared)
        self.outbox = Outbox(connection, shared.unsent)
        self._node = node
        self._commands = commands
        self._shared = shared
        self._turn = turn = SessionTurn(node.value)
        self._context = client, turn, NodeView(node), shared, inbox.while_connected  # of each call
        self._desk = Responder(connection, self.outbox.put)
        self._last = "none"  # the command that it asked for last

    def refresh(self) -> None:
        """Count as used, unless a command is under way, or has begun and not all come.

        A transaction without an end would keep memory from all others for ever: its connection ends.
        """
        transaction = self.client.transaction
        overdue = transaction is not None and trio.current_time() >= transaction.begun + _TRANSACTION_WITHIN
        if self.inbox.kept and overdue:
            self.connection.abort()
        elif not self.connection.busy and self.inbox.parser.between_commands:
            self.connection.set_busy(False)

    def statistics(self) -> ClientStatistics:
        """What CLIENT LIST tells of it."""
        client, connection, now = self.client, self.connection, trio.current_time()
        here = there = ""
        with suppress(OSError):  # it is gone already
            here, there = _address(connection.stream.local()), _address(connection.stream.remote())
        return ClientStatistics(
            id=client.id,
            name=client.name,
            library=client.library,
            address=there,
            local_address=here,
            descriptor=connection.stream.descriptor,
            age=now - connection.opened,
            idle=now - connection.last_used,
            queued=None if client.transaction is None else len(client.transaction),
            queued_bytes=0 if client.transaction is None else client.transaction.size,
            kept=self.inbox.kept,
            unsent=self.outbox.size,
            last=self._last,
            version=self._turn.version,
        )

    async def run(self, data: bytes) -> None:
        """Answer until either side ends the connection; see `RedisService.serve`."""
        connection = self.connection
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data:
                if self.outbox.full:
                    await self.outbox.wait_drained()
                if not self._answer_at_once(data) and await self._answer(data) and not self.outbox.waiting:
                    connection.set_busy(False)
                data = await self._receive()
            await self.outbox.finish()
            await connection.send_eof()
        await connection.aclose()

    def close(self) -> None:
        """Keep nothing."""
        self.inbox.close()
        self.outbox.close()

    async def _receive(self) -> bytes:
        """Receive what this task has to answer; nothing when nothing is to be answered any more."""
        await self._desk.settle()
        while not (self.client.closing or self.connection.stopping):
            if data := self.inbox.take():
                return data
            if self.inbox.ended:
                break
            if self.outbox.waiting:
                received = await self.outbox.receive()
            else:
                received = await self._desk.receive(self._answer_at_once)
            if received is not None and not self.connection.stopping:
                return received
        return b""

    # The commands of a turn

    async def _answer(self, data: bytes) -> bool:
        """Execute all commands that are whole with some input, and answer them; returns whether there was one."""
        commands = self.inbox.feed(data)
        outbox, turn, client = self.outbox, self._turn, self.client
        if outbox.refusing:
            outbox.refuse(len(data), 0)
        for number, words in enumerate(commands, start=1):
            if outbox.refusing:
                self._refuse(words)
            else:
                await self._execute(words)
            if client.closing:
                break
            if turn.size >= _SEND_BYTES or number % _COMMANDS_A_TURN == 0:
                await self._flush()
                await trio.lowlevel.checkpoint()
        fault = self.inbox.parser.fault
        if fault is not None and not client.closing:
            turn.say("none", resp.error(f"ERR Protocol error: {fault}"))
            client.closing = True
        await self._flush()
        if self.inbox.kept:
            self.inbox.may_keep()  # a transaction may have ended
        return bool(commands)

    async def _execute(self, words: resp.Words) -> None:
        word, known = words[0], self._commands.known
        command = known.get(word) or known.get(word.upper())
        if command is None or not command.takes(len(words)):
            self._turn.say(*_not_executed(self._commands, self.client, words, command))
            return
        transaction = self.client.transaction
        if transaction is not None and command.queued:
            put = None if command.run is None else partial(command.run, Call(words, *self._context))
            queued = transaction.queue(command.name, words, command.ask, put, self.inbox.may_keep)
            self._turn.say(command.name, queued)
            return
        if command.waits and not self._node.recovered:
            await self._flush()
            with suppress(Recovering):
                await self._node.wait_recovered()
        self._last = command.name
        try:
            if command.ask is not None:
                reply: Reply | Pieces = command.ask(self._turn, words)
            elif command.run is not None:
                reply = command.run(Call(words, *self._context))
            else:
                assert command.later is not None
                reply = await self._wait_for(command, partial(command.later, Call(words, *self._context)))
            if isinstance(reply, Pieces):
                reply = await self._wait_for(command, partial(self._shared.join, reply))
        except (CommandError, Refusal) as error:
            reply = resp.error(error_text(error))
        self._turn.say(command.name, reply)

    def _refuse(self, words: resp.Words) -> None:
        """Answer a command that is not executed."""
        command = self._commands.known.get(words[0].upper())
        name = "unknown" if command is None else command.name
        self.client.skip(name, self._turn.version)
        self.client.closing = name == "QUIT"
        self._shared.commands[name, True] += 1
        self.outbox.refuse(0, 1)

    async def _wait_for(self, command: Command, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """Do what may take its time, when everything before the command was answered, and sent meanwhile."""
        await self._flush()
        self.connection.set_busy(True)
        await trio.lowlevel.checkpoint()  # however many came together, others get their turn
        blocks = "blocking" in command.flags
        self._shared.blocked += blocks
        try:
            return await (self.outbox.beside(work) if self.outbox.waiting else work())
        finally:
            self._shared.blocked -= blocks

    async def _flush(self) -> None:
        """Wait for what was staged, then send all answers."""
        turn = self._turn
        if not turn.answers:
            return
        if turn.asked:
            self.connection.set_busy(True)
            outcome = await self._node.count(turn.asked)
            self.client.acknowledged |= outcome.position
            turn.settle(outcome)
        names, answers = turn.take()
        self._shared.commands.update(zip(names, [answer[:1] == b"-" for answer in answers], strict=True))
        self.outbox.put(b"".join(answers))
        if self.outbox.full:
            await self.outbox.wait_drained()

    # Pipelines of one command

    def _answer_at_once(self, data: bytes) -> bool:
        """Answer a pipeline of nothing but INCR, or GET, without waiting; False when the input is anything else."""
        if self.client.transaction is not None or self.outbox.refusing:
            return False
        if not (self._desk.free and self.inbox.parser.between_commands):
            return False
        column = resp.columns(data)
        if column is None:
            return False
        word, raw_names = column
        command = word.upper()
        if command not in (b"INCR", b"GET") or (names := parse_names(raw_names)) is None:
            return False
        if command == b"INCR":
            self._desk.expect()
            if not self._node.submit(Repeat(names, 1), self._counted):
                self._desk.withdraw()
                return False
            self._last = "INCR"
            return True
        if not self._node.recovered:
            return False
        values, version = map(self._node.value, names), self._turn.version
        self._last = "GET"
        self._shared.commands["GET", False] += len(names)
        self._desk.answer(b"".join([resp.bulk(b"%d" % n) if n else resp.NULL[version] for n in values]))
        return True

    def _counted(self, outcome: Outcome) -> None:
        """Answer a pipeline of INCR in the instant in which it is counted."""
        self.client.acknowledged |= outcome.position
        numbers, commands = outcome.numbers, self._shared.commands
        if numbers is not None:
            commands["INCR", False] += len(numbers)
            self._desk.answer(resp.integers(numbers, max(numbers), self._turn.version))
            return
        answers: list[bytes] = []
        for value in outcome.values:
            refused = isinstance(value, Refusal)
            commands["INCR", refused] += 1
            answers.append(
                resp.error(refusal_text(value))
                if isinstance(value, Refusal)
                else resp.integer(value, self._turn.version)
            )
        self._desk.answer(b"".join(answers))


def _not_executed(commands: Commands, client: Client, words: resp.Words, command: Command | None) -> tuple[str, bytes]:
    """The name under which a command counts that can't be executed, and its answer; it fails its transaction."""
    transaction = client.transaction
    if transaction is not None:
        transaction.fail()
    name, text = commands.unknown(words, command)
    if name == "EXEC" and transaction is not None:
        client.end_transaction()
        text = aborted(text)
    return name, resp.error(text)


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
