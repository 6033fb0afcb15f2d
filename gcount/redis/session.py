"""A session with a Redis client: all commands that came together share one commit.

What was read is executed at one instant, in its order: increments are staged, values are those of that instant, and no
other increment comes in between. Then the session waits for the one commit, and answers all with one send. So a client
sees its own increments, and the answers to all increments of a counter on a node are the values in their order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from gcount.core.state.counters import Digest
from gcount.errors import DiskFull, IncarnationLimitReached, Recovering, Refusal
from gcount.net.connection import Connection
from gcount.net.reactor import RECEIVE_BYTES
from gcount.net.responder import Responder
from gcount.redis import resp
from gcount.redis import transaction as transactions
from gcount.redis.command import Command, CommandError, Later, Turn, error_text, parse_names, refusal_text, unknown
from gcount.redis.outbox import Outbox
from gcount.redis.transaction import Transaction
from gcount.storage.group_commit import Amounts

if TYPE_CHECKING:
    from gcount.redis.service import RedisService

_SEND_BYTES: Final = 64 * 1024  # answers are not kept beyond
_MAX_AHEAD: Final = 64 * 1024  # input that is kept while a command waits
# Memory for input that can't be executed yet: what each session may always take, and beyond it all of them together.
_OWN_BYTES: Final = 4 * 1024
_SHARED_BYTES: Final = 64 * 1024 * 1024
_COMMANDS_A_TURN: Final = 1024
_TRANSACTION_WITHIN: Final = 60.0  # seconds, for one that takes of the memory for all


class Session(Turn):
    """One client.

    Attributes:
        id: no other session of this start has it.
        name: what the client calls itself.
        library: what it says that it was made with, and which version of that.
        node: whom it asks.
        acknowledged: this node's versions that hold all increments that the client was told of.
        closing: whether nothing is answered any more.
        kept: bytes of memory that its input takes beyond what each session may take.
        transaction: what it has asked for since MULTI.
        unguarded: whether a WATCH was refused, so that the next transaction can't be executed.
        last: the command that it asked for last.
    """

    def __init__(self, redis: RedisService, connection: Connection, number: int) -> None:
        super().__init__()
        self.id = number
        self.name = b""
        self.library = (b"", b"")
        self.redis = redis
        self.node = redis.node
        self.connection = connection
        self.acknowledged: Digest = {}
        self.closing = False
        self.kept = 0
        self.transaction: Transaction | None = None
        self.unguarded = False
        self.last = "none"
        self.outbox = Outbox(connection, redis.unsent)
        self._parser = resp.Parser()
        self._ahead = bytearray()
        self._ended = False
        self._answers: list[bytes] = []
        self._verbs: list[str] = []
        self._size = 0
        self._later: list[tuple[int, Later]] = []
        self._together: list[range] = []
        self._desk = Responder(connection, self.outbox.put)

    def refresh(self) -> None:
        """Count as used, unless a command is under way, or has begun and not all come.

        A transaction without an end would keep memory from all others for ever: its connection ends.
        """
        transaction = self.transaction
        if self.kept and transaction is not None and trio.current_time() >= transaction.begun + _TRANSACTION_WITHIN:
            self.connection.abort()
        elif not self.connection.busy and self._parser.between_commands:
            self.connection.set_busy(False)

    async def run(self, data: bytes) -> None:
        """Answer until either side ends the connection; see `Redis.serve`."""
        connection = self.connection
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data:
                if self.outbox.full:
                    await self.outbox.wait_room()
                if not self._answer_at_once(data) and await self._answer(data) and not self.outbox.waiting:
                    connection.set_busy(False)
                data = await self._receive()
            await self.outbox.finish()
            await connection.send_eof()
        await connection.aclose()

    async def _receive(self) -> bytes:
        """Receive what this task has to answer; nothing when nothing is to be answered any more."""
        await self._desk.settle()
        while not (self.closing or self.connection.stopping):
            if self._ahead:
                ahead = bytes(self._ahead[:RECEIVE_BYTES])
                del self._ahead[:RECEIVE_BYTES]
                self.may_keep()
                return ahead
            if self._ended:
                break
            if self.outbox.waiting:
                data = await self.outbox.receive()
            else:
                data = await self._desk.receive(self._answer_at_once)
            if data is not None and not self.connection.stopping:
                return data
        return b""

    # The commands of a turn

    def read(self, names: Sequence[str], render: Callable[[Sequence[int]], bytes]) -> bytes | Later:
        """Read counters as they are at this place in the turn."""
        if not self.amounts:
            return render([self.node.value(name) for name in names])
        return super().read(names, render)

    def together(self, amounts: Amounts, render: Callable[[Sequence[int]], bytes], *, counts: bool) -> bytes | Later:
        """Stage many increments of which all are taken or none.

        Args:
            amounts: see `Turn.amounts`.
            render: makes the reply of their values.
            counts: whether there is an increment among them.
        """
        if not (counts or self.amounts):
            return render([self.node.value(name) for name, _ in amounts])
        first = len(self.amounts)
        self.amounts += amounts
        if counts:
            self._together.append(range(first, len(self.amounts)))
        return Later(first, len(amounts), render, transactions.refused)

    async def _answer(self, data: bytes) -> bool:
        """Execute all commands that are whole with some input, and answer them; returns whether there was one."""
        commands = self._parser.feed(data)
        if not self.may_keep():
            self._parser.refuse(resp.ProtocolFault("no memory is left for more unfinished commands"))
            self.may_keep()
        outbox = self.outbox
        if outbox.refusing:
            outbox.refuse(len(data), 0)
        for number, command in enumerate(commands, start=1):
            if outbox.refusing:
                self._refuse(command)
            else:
                await self._execute(command)
            if self.closing:
                break
            if self._size >= _SEND_BYTES or number % _COMMANDS_A_TURN == 0:
                await self._flush()
                await trio.lowlevel.checkpoint()
        if self._parser.fault is not None and not self.closing:
            self._say("none", resp.error(f"ERR Protocol error: {self._parser.fault}"))
            self.closing = True
        await self._flush()
        if self.kept:
            self.may_keep()  # a transaction may have ended
        return bool(commands)

    def may_keep(self) -> bool:
        """Count what this session keeps of its input; returns whether it may, beside what all others keep."""
        queued = 0 if self.transaction is None else self.transaction.size
        kept = max(0, self._parser.held + len(self._ahead) + queued - _OWN_BYTES)
        self.redis.kept += kept - self.kept
        self.kept = kept
        return not kept or self.redis.kept <= _SHARED_BYTES

    async def _execute(self, command: resp.Words) -> None:
        word, verbs = command[0], self.redis.verbs
        verb = verbs.get(word) or verbs.get(word.upper())
        if verb is None or not verb.takes(len(command)):
            self._say(*self._unknown(command, verb))
            return
        if self.transaction is not None and verb.queued:
            self._say(verb.name, self.transaction.queue(verb, command, self.may_keep))
            return
        if verb.waits and not self.node.recovered:
            await self._flush()
            with suppress(Recovering):
                await self.node.wait_recovered()
        self.last = verb.name
        try:
            if verb.ask is not None:
                reply = verb.ask(self, command)
            elif verb.run is not None:
                reply = verb.run(self, command)
            else:
                reply = await self._wait_for(verb, command)
        except (CommandError, Refusal) as error:
            reply = resp.error(error_text(error))
        if isinstance(reply, bytes):
            self._say(verb.name, reply)
        else:
            self._later.append((len(self._answers), reply))
            self._say(verb.name, b"")

    def _refuse(self, command: resp.Words) -> None:
        """Answer a command that is not executed."""
        verb = self.redis.verbs.get(command[0].upper())
        name = "unknown" if verb is None else verb.name
        transactions.skip(self, name)
        self.closing = name == "QUIT"
        self.redis.commands[name, True] += 1
        self.outbox.refuse(0, 1)

    async def _wait_for(self, verb: Command, command: resp.Words) -> bytes:
        """Execute a command that may take its time, when everything before it was answered, and sent meanwhile."""
        assert verb.later is not None
        await self._flush()
        self.connection.set_busy(True)
        await trio.lowlevel.checkpoint()  # however many came together, others get their turn
        blocks = "blocking" in verb.flags
        self.redis.blocked += blocks
        try:
            if not self.outbox.waiting:
                return await verb.later(self, command)
            return await self.outbox.beside(partial(verb.later, self, command))
        finally:
            self.redis.blocked -= blocks

    def _say(self, name: str, reply: bytes) -> None:
        self._verbs.append(name)
        self._answers.append(reply)
        self._size += len(reply)

    def _unknown(self, command: resp.Words, verb: Command | None) -> tuple[str, bytes]:
        """What to say to a command that can't be executed, and the name under which it is counted."""
        transaction = self.transaction
        if transaction is not None:
            transaction.fail()
        name, text = unknown(command, verb, self.redis.refused)
        if name == "EXEC" and transaction is not None:
            transactions.end(self)
            text = transactions.aborted(text)
        return name, resp.error(text)

    async def _flush(self) -> None:
        """Wait for what was staged, then send all answers."""
        answers = self._answers
        if not answers:
            return
        if self.amounts:
            amounts, self.amounts = self.amounts, []
            together, self._together = self._together, []
            later, self._later = self._later, []
            values = await self._commit(amounts, together)
            for place, (first, number, render, refused) in later:
                found = [value for value in values[first : first + number] if isinstance(value, int)]
                refusal = next((value for value in values[first : first + number] if isinstance(value, Refusal)), None)
                answers[place] = render(found) if refusal is None else resp.error(refused(refusal))
        self.redis.commands.update(zip(self._verbs, [answer[:1] == b"-" for answer in answers], strict=True))
        self._answers, self._verbs, self._size = [], [], 0
        self.outbox.put(b"".join(answers))
        if self.outbox.full:
            await self.outbox.wait_room()

    async def _commit(self, amounts: Amounts, together: list[range]) -> Sequence[int | Refusal]:
        """Count, and remember what was acknowledged."""
        self.connection.set_busy(True)
        node = self.node
        try:
            values = await node.increment_many(amounts, together)
        except (DiskFull, IncarnationLimitReached) as refusal:
            return [refusal if amount else node.value(name) for name, amount in amounts]
        except Recovering as refusal:
            return [refusal] * len(amounts)
        replica = node.replica
        self.acknowledged[replica.identity.incarnation] = replica.version
        for incarnation in replica.identity.retired[-1:]:  # should a new one have come with the next batch already
            self.acknowledged[incarnation] = replica.counters.version(incarnation)
        return values

    # Pipelines of one command

    def _answer_at_once(self, data: bytes) -> bool:
        """Answer a pipeline of nothing but INCR, or GET, without waiting; False when the input is anything else."""
        if self.transaction is not None or self.outbox.refusing:
            return False
        if not (self._desk.free and self._parser.between_commands):
            return False
        column = resp.columns(data)
        if column is None:
            return False
        word, raw_names = column
        verb = word.upper()
        if verb not in (b"INCR", b"GET") or (names := parse_names(raw_names)) is None:
            return False
        if verb == b"INCR":
            if not self.node.increment_each(names, 1, partial(self._counted, len(names))):
                return False
            self.last = "INCR"
            self._desk.expect()
            return True
        if not self.node.recovered:
            return False
        values = map(self.node.value, names)
        self.last = "GET"
        self.redis.commands["GET", False] += len(names)
        self._desk.answer(b"".join([resp.bulk(b"%d" % n) if n else resp.NULL[self.version] for n in values]))
        return True

    def _counted(self, times: int, values: Sequence[int] | DiskFull) -> None:
        """Answer a pipeline of INCR in the instant in which it is counted."""
        if isinstance(values, DiskFull):
            answers = resp.error(refusal_text(values)) * times
        else:
            replica = self.node.replica
            self.acknowledged[replica.identity.incarnation] = replica.version
            answers = resp.integers(values, max(values), self.version)
        self.redis.commands["INCR", isinstance(values, DiskFull)] += times
        self._desk.answer(answers)

    async def while_connected(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait for something for as long as the client stays; what it sends meanwhile is kept, up to a limit."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            await wait()
            nursery.cancel_scope.cancel()

    async def _listen(self, waiting: trio.CancelScope) -> None:
        """Keep what the client sends until it leaves; who sends too much has left, too: nobody would see it leave."""
        while not self._ended and len(self._ahead) < _MAX_AHEAD and self.may_keep():
            data = b""
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                data = await self.connection.receive_some()
            if not data:
                break
            self._ahead += data
        self._ended = True
        waiting.cancel()
