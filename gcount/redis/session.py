"""A session with a Redis client: all commands that came together share one commit.

The commands of one piece of input are executed at one instant, in their order. Their increments are staged, they read
the values of that instant, and no other increment comes in between. Then the session waits for the one commit, and
sends all answers at once. So a client sees its own increments, and the answers to all increments of one counter on a
node are its values in the order in which it grew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from gcount.core.writes.increments import Outcome, Repeat
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

_SEND_BYTES: Final = 64 * 1024  # bytes of answers; a turn that has more is sent
_COMMANDS_A_TURN: Final = 1024
_TRANSACTION_WITHIN: Final = 60.0  # seconds that a transaction may take if it takes memory that all clients share


class Session:
    """One client, while it is connected.

    Args:
        node: the node.
        commands: the commands that the client may use.
        shared: what all clients share.
        connection: the client's connection.
        number: the client's id: no other client of this start of the node has it.

    Attributes:
        client: what the node knows of the client.
        inbox: the client's input that is not executed yet.
        outbox: the answers that the client has not taken yet.
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
        self._context = client, turn, NodeView(node), shared, inbox.while_connected  # the arguments of each `Call`
        self._responder = Responder(connection, self.outbox.put)
        self._last = "none"  # the name of the last command

    def refresh(self) -> None:
        """Keep the connection of an idle client from being closed, as Redis does.

        A client that has sent only a part of a command is not idle. A transaction that takes of the memory of all
        clients and has not ended in time ends here, with its connection: it could keep that memory for ever.
        """
        transaction = self.client.transaction
        overdue = transaction is not None and trio.current_time() >= transaction.begun + _TRANSACTION_WITHIN
        if self.inbox.kept and overdue:
            self.connection.abort()
        elif not self.connection.busy and self.inbox.parser.between_commands:
            self.connection.set_busy(False)

    def statistics(self) -> ClientStatistics:
        """The client, as CLIENT LIST shows it."""
        client, connection, now = self.client, self.connection, trio.current_time()
        here = there = ""
        with suppress(OSError):  # the client may have left already
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
        """Give back the memory of the session."""
        self.inbox.close()
        self.outbox.close()

    async def _receive(self) -> bytes:
        """Receive the next input that this task has to answer; no bytes if the session is to end."""
        await self._responder.settle()
        while not (self.client.closing or self.connection.stopping):
            if data := self.inbox.take():
                return data
            if self.inbox.ended:
                break
            if self.outbox.waiting:
                received = await self.outbox.receive()
            else:
                received = await self._responder.receive(self._answer_at_once)
            if received is not None and not self.connection.stopping:
                return received
        return b""

    # The commands of a turn

    async def _answer(self, data: bytes) -> bool:
        """Execute and answer all commands that are complete with some input; returns whether there was one."""
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
                assert command.later is not None, "a command asks, runs or comes later"
                reply = await self._wait_for(command, partial(command.later, Call(words, *self._context)))
            if isinstance(reply, Pieces):
                reply = await self._wait_for(command, partial(self._shared.join, reply))
        except (CommandError, Refusal) as error:
            reply = resp.error(error_text(error))
        self._turn.say(command.name, reply)

    def _refuse(self, words: resp.Words) -> None:
        """Answer a command with an error instead of executing it: its client takes no answers."""
        command = self._commands.known.get(words[0].upper())
        name = "unknown" if command is None else command.name
        self.client.skip(name, self._turn.version)
        self.client.closing = name == "QUIT"
        self._shared.commands[name, True] += 1
        self.outbox.refuse(0, 1)

    async def _wait_for(self, command: Command, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """Execute a command that may take long. All commands before it are answered first."""
        await self._flush()
        self.connection.set_busy(True)
        await trio.lowlevel.checkpoint()  # many commands may have come together; other tasks get their turn between
        blocks = "blocking" in command.flags
        self._shared.blocked += blocks
        try:
            return await (self.outbox.beside(work) if self.outbox.waiting else work())
        finally:
            self._shared.blocked -= blocks

    async def _flush(self) -> None:
        """Wait until the staged increments are committed, then send all answers."""
        turn = self._turn
        if not turn.answers:
            return
        if turn.asked:
            self.connection.set_busy(True)
            outcome = await self._node.count(turn.asked)
            self.client.acknowledge(outcome.position)
            turn.settle(outcome)
        names, answers = turn.take()
        self._shared.commands.update(zip(names, [answer[:1] == b"-" for answer in answers], strict=True))
        self.outbox.put(b"".join(answers))
        if self.outbox.full:
            await self.outbox.wait_drained()

    # Pipelines of one command

    def _answer_at_once(self, data: bytes) -> bool:
        """Answer a pipeline of nothing but INCR, or nothing but GET, without waiting.

        Returns:
            False if the input is anything else; nothing was done then.
        """
        if self.client.transaction is not None or self.outbox.refusing:
            return False
        if not (self._responder.free and self.inbox.parser.between_commands):
            return False
        column = resp.columns(data)
        if column is None:
            return False
        word, raw_names = column
        command = word.upper()
        if command not in (b"INCR", b"GET") or (names := parse_names(raw_names)) is None:
            return False
        if command == b"INCR":
            self._responder.expect()
            if not self._node.submit(Repeat(names, 1), self._counted):
                self._responder.withdraw()
                return False
            self._last = "INCR"
            return True
        if not self._node.recovered:
            return False
        values, version = map(self._node.value, names), self._turn.version
        self._last = "GET"
        self._shared.commands["GET", False] += len(names)
        self._responder.answer(b"".join([resp.bulk(b"%d" % n) if n else resp.NULL[version] for n in values]))
        return True

    def _counted(self, outcome: Outcome) -> None:
        """Answer a pipeline of INCR in the instant in which it is counted."""
        self.client.acknowledge(outcome.position)
        numbers, commands = outcome.numbers, self._shared.commands
        if numbers is not None:
            commands["INCR", False] += len(numbers)
            self._responder.answer(resp.integers(numbers, max(numbers), self._turn.version))
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
        self._responder.answer(b"".join(answers))


def _not_executed(commands: Commands, client: Client, words: resp.Words, command: Command | None) -> tuple[str, bytes]:
    """Answer a command that can't be executed, and fail the transaction to which it belongs.

    Returns:
        The name under which the metrics count the command, and the answer.
    """
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
