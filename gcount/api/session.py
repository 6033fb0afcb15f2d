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

from gcount.api import resp
from gcount.api.connection import Connection
from gcount.api.desk import Desk
from gcount.api.reactor import RECEIVE_BYTES
from gcount.api.verbs import CommandError, Later, Verb, parse_names, refusal_text
from gcount.core.counters import Digest
from gcount.errors import DiskFull, IncarnationLimitReached, Recovering, Refusal

if TYPE_CHECKING:
    from gcount.api.redis import Redis

_SEND_BYTES: Final = 64 * 1024  # answers are not kept beyond
_MAX_AHEAD: Final = 64 * 1024  # input that is kept while a command waits
# Memory for input that can't be executed yet: what each session may always take, and beyond it all of them together.
_OWN_BYTES: Final = 4 * 1024
_SHARED_BYTES: Final = 64 * 1024 * 1024
_COMMANDS_A_TURN: Final = 1024


class Session:
    """One client.

    Attributes:
        id: no other session of this start has it.
        name: what the client calls itself.
        version: of RESP, 2 or 3.
        node: whom it asks.
        acknowledged: this node's versions that hold all increments that the client was told of.
        closing: whether nothing is answered any more.
        kept: bytes of memory that its input takes beyond what each session may take.
    """

    def __init__(self, redis: Redis, connection: Connection, number: int) -> None:
        self.id = number
        self.name = b""
        self.version = 2
        self.redis = redis
        self.node = redis.node
        self.connection = connection
        self.acknowledged: Digest = {}
        self.closing = False
        self.kept = 0
        self._parser = resp.Parser()
        self._ahead = bytearray()
        self._ended = False
        self._answers: list[bytes] = []
        self._verbs: list[str] = []
        self._size = 0
        self._later: list[tuple[int, Later]] = []
        self._amounts: list[tuple[str, int]] = []
        self._desk = Desk(connection)

    def refresh(self) -> None:
        """Count as used, unless a command is under way, or has begun and not all come."""
        if not self.connection.busy and self._parser.between_commands:
            self.connection.set_busy(False)

    async def run(self, data: bytes) -> None:
        """Answer until either side ends the connection; see `Redis.serve`."""
        connection = self.connection
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data:
                if not self._answer_at_once(data) and await self._answer(data):
                    connection.set_busy(False)
                data = await self._receive()
            await connection.send_eof()
        await connection.aclose()

    async def _receive(self) -> bytes:
        """Receive what this task has to answer; nothing when nothing is to be answered any more."""
        await self._desk.settle()
        while not (self.closing or self.connection.stopping):
            if self._ahead:
                ahead = bytes(self._ahead[:RECEIVE_BYTES])
                del self._ahead[:RECEIVE_BYTES]
                self._count_kept()
                return ahead
            if self._ended:
                break
            data = await self._desk.receive(self._answer_at_once)
            if data is not None and not self.connection.stopping:
                return data
        return b""

    # The commands of a turn

    def count(self, amount: int, name: str) -> Later:
        """Stage an increment; its reply is the value after it."""
        version = self.version  # a HELLO may follow in the same turn
        self._amounts.append((name, amount))
        return Later(len(self._amounts) - 1, 1, lambda values: resp.integer(values[0], version))

    def read(self, names: Sequence[str], render: Callable[[Sequence[int]], bytes]) -> bytes | Later:
        """Read counters as they are at this place in the turn."""
        if not self._amounts:
            return render([self.node.value(name) for name in names])
        first = len(self._amounts)
        self._amounts += [(name, 0) for name in names]
        return Later(first, len(names), render)

    async def _answer(self, data: bytes) -> bool:
        """Execute all commands that are whole with some input, and answer them; returns whether there was one."""
        commands = self._parser.feed(data)
        if not self._count_kept():
            self._parser.refuse(resp.ProtocolFault("no memory is left for more unfinished commands"))
            self._count_kept()
        for number, command in enumerate(commands, start=1):
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
        return bool(commands)

    def _count_kept(self) -> bool:
        """Count what this session keeps of its input; returns whether it may, beside what all others keep."""
        kept = max(0, self._parser.held + len(self._ahead) - _OWN_BYTES)
        self.redis.kept += kept - self.kept
        self.kept = kept
        return not kept or self.redis.kept <= _SHARED_BYTES

    async def _execute(self, command: resp.Command) -> None:
        word = command[0]
        verb = self.redis.verbs.get(word) or self.redis.verbs.get(word.upper())
        if verb is None or not verb.takes(len(command)):
            self._say(*self._unknown(command, verb))
            return
        if verb.waits and not self.node.recovered:
            await self._flush()
            with suppress(Recovering):
                await self.node.wait_recovered()
        try:
            if verb.run is not None:
                reply = verb.run(self, command)
            else:
                assert verb.later is not None
                await self._flush()
                self.connection.set_busy(True)
                await trio.lowlevel.checkpoint()  # however many came together, others get their turn
                reply = await verb.later(self, command)
        except CommandError as error:
            reply = resp.error(str(error))
        except Refusal as refusal:
            reply = resp.error(refusal_text(refusal))
        if isinstance(reply, bytes):
            self._say(verb.name, reply)
        else:
            self._later.append((len(self._answers), reply))
            self._say(verb.name, b"")

    def _say(self, name: str, reply: bytes) -> None:
        self._verbs.append(name)
        self._answers.append(reply)
        self._size += len(reply)

    def _unknown(self, command: resp.Command, verb: Verb | None) -> tuple[str, bytes]:
        """What to say to a command that can't be executed, and the name under which it is counted."""
        if verb is not None:
            return verb.name, resp.error(f"ERR wrong number of arguments for '{verb.name.lower()}' command")
        reason = self.redis.refused.get(command[0].upper())
        if reason is not None:
            name = command[0].upper().decode()
            return name, resp.error(f"ERR {name} is not possible: {reason}")
        words = [word[:128].decode("utf-8", "replace") for word in command[:8]]
        begins = "".join(f"'{word}' " for word in words[1:])
        return "unknown", resp.error(f"ERR unknown command '{words[0]}', with args beginning with: {begins}")

    async def _flush(self) -> None:
        """Wait for what was staged, then send all answers."""
        answers = self._answers
        if not answers:
            return
        if self._amounts:
            amounts, self._amounts = self._amounts, []
            later, self._later = self._later, []
            values = await self._commit(amounts)
            for place, (first, number, render) in later:
                found = [value for value in values[first : first + number] if isinstance(value, int)]
                refused = next((value for value in values[first : first + number] if isinstance(value, Refusal)), None)
                answers[place] = render(found) if refused is None else resp.error(refusal_text(refused))
        self.redis.commands.update(zip(self._verbs, [answer[:1] == b"-" for answer in answers], strict=True))
        self._answers, self._verbs, self._size = [], [], 0
        await self.connection.send_all(b"".join(answers))

    async def _commit(self, amounts: list[tuple[str, int]]) -> Sequence[int | Refusal]:
        """Count, and remember what was acknowledged."""
        self.connection.set_busy(True)
        node = self.node
        try:
            values = await node.increment_many(amounts)
        except DiskFull as full:
            return [full if amount else node.value(name) for name, amount in amounts]
        except (Recovering, IncarnationLimitReached) as refusal:
            return [refusal] * len(amounts)
        replica = node.local.replica
        self.acknowledged[replica.identity.incarnation] = replica.version
        for incarnation in replica.identity.retired[-1:]:  # should a new one have come with the next batch already
            self.acknowledged[incarnation] = replica.counters.version(incarnation)
        return values

    # Pipelines of one command

    def _answer_at_once(self, data: bytes) -> bool:
        """Answer a pipeline of nothing but INCR, or GET, without waiting; False when the input is anything else."""
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
            self._desk.expect()
            return True
        if not self.node.recovered:
            return False
        values = map(self.node.value, names)
        self.redis.commands["GET", False] += len(names)
        self._desk.answer(b"".join([resp.bulk(b"%d" % n) if n else resp.NULL[self.version] for n in values]))
        return True

    def _counted(self, times: int, values: Sequence[int] | DiskFull) -> None:
        """Answer a pipeline of INCR in the instant in which it is counted."""
        if isinstance(values, DiskFull):
            answers = resp.error(refusal_text(values)) * times
        else:
            replica = self.node.local.replica
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
        while not self._ended and len(self._ahead) < _MAX_AHEAD and self._count_kept():
            data = b""
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                data = await self.connection.receive_some()
            if not data:
                break
            self._ahead += data
        self._ended = True
        waiting.cancel()
