"""The film of a run: one line for each event, with its simulated time, for people."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping

import structlog
import trio
from structlog.typing import EventDict, WrappedLogger

from gcount.core.protocol import messages
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.membership import Membership
from tests.fakes.process import PROCESS
from tests.simulation.campaign.history import PLAIN
from tests.simulation.laws.survival import bits

_WIDTH = 9  # of the column with the actor of an event


class Film:
    """Collects the lines of a run.

    Args:
        rolling: whether to collect any; without it a run is faster.
    """

    def __init__(self, *, rolling: bool) -> None:
        self.rolling = rolling
        self.lines: list[str] = []
        self._names: dict[bytes, str] = {}  # short names of incarnations: 1a, 1b, 2a ...

    def add(self, who: str, text: str) -> None:
        """Add an event.

        Args:
            who: the actor: an address or a role.
            text: what happened.
        """
        if self.rolling:
            self.lines.append(f"{trio.current_time():9.4f}  {_short(who):<{_WIDTH}}  {text}")

    def disk(self, address: str, operation: str, name: str) -> None:
        """Add the beginning of a disk operation."""
        if self.rolling:
            self.add(address, f"disk: {operation} {name}".rstrip())

    def stored(self, address: str, batch: Batch) -> None:
        """Add a batch that became durable."""
        if not self.rolling:
            return
        parts = [self._delta(address, delta) for delta in batch.deltas]
        if batch.identity:
            parts.insert(0, f"new incarnation {self._name(address, batch.identity.incarnation)}")
        if batch.membership:
            parts.append(_membership(batch.membership))
        if batch.floor is not None:
            parts.append(f"no id up to {batch.floor}")
        if batch.needs is not None:
            columns = " ".join(self._name(address, who) for who in batch.needs.columns)
            parts.append(f"{columns} with {self._digest(batch.needs.versions)}")
        self.add(address, f"durable: batch {batch.number}: {', '.join(parts) or 'nothing'}")

    def message(self, verb: str, who: str, other: str, message: messages.Message) -> None:
        """Add a message that was sent or received."""
        if not self.rolling:
            return
        arrow = "->" if verb == "sent" else "<-"
        author = who if verb == "sent" else other
        self.add(who, f"{arrow} {_short(other)}: {self._message(author, message)}")

    def _message(self, author: str, message: messages.Message) -> str:
        match message:
            case messages.Hello():
                mine = self._name(author, message.incarnation)
                twin = ", TWIN" if message.duplicate else ""
                return f"Hello as {mine}{twin}, knows {self._digest(message.digest)}, {_membership(message.membership)}"
            case messages.Push(number=number, last=last, deltas=deltas):
                more = "" if last else ", more to come"
                needs = f", needs {self._digest(message.needs)}" if message.needs else ""
                return f"Push {number}: {', '.join(self._delta(author, delta) for delta in deltas)}{more}{needs}"
            case messages.Ack(number=number, digest=digest, refused=refused):
                return f"Ack {number}: {f'REFUSED, {refused}' if refused else self._digest(digest)}"
            case messages.HeartbeatAck(digest=digest):
                return f"HeartbeatAck {self._digest(digest)}, no id up to {message.floor}"
            case messages.ReadCells(round=number, name=name, hold=hold, known=known):
                knows = "" if known is None else f", knows ids up to {self._digest(known)}"
                return f"ReadCells round {number} of {name}{', hold' if hold else ''}{knows}"
            case messages.CellsReply(round=number, cells=cells, membership=membership):
                shown = ", ".join(f"{self._name('', who)} {value(n)}" for who, n in cells.items())
                news = f", {_membership(membership)}" if membership else ""
                more = "".join(f", part {self._name('', who)} {value(n)}" for who, n in message.parts.items())
                changed = f", changed {self._digest(message.changed)}" if message.changed else ""
                told = f", told {message.told}" if message.told else ""
                return f"CellsReply round {number}: {shown or 'nothing'}{more}{changed}{told}{news}"
            case messages.Members(membership=membership):
                return f"Members {_membership(membership)}"
        return " ".join(map(str, (type(message).__name__, *vars_of(message))))

    def _delta(self, author: str, delta: Delta) -> str:
        cells = " ".join(f"{name}={value(n, name)}" for name, n in delta.cells.items())
        return f"{self._name(author, delta.incarnation)} v{delta.after}..{delta.upto} [{cells}]{self._keyed(delta)}"

    def _keyed(self, delta: Delta) -> str:
        if delta.keyed is None:
            return ""
        entries = [f"{key}={value(total)} v{version}" for key, (total, version) in delta.keyed.entries.items()]
        settled = [
            f"{self._name('', who)} settled up to {one.until} v{one.version} "
            + " ".join(f"{name}={value(n)}" for name, n in one.parts.items())
            for who, one in delta.keyed.settled.items()
        ]
        return f" ({'; '.join(entries + settled)})"

    def _digest(self, digest: Digest) -> str:
        return " ".join(f"{self._name('', who)}:v{version}" for who, version in digest.items()) or "nothing new"

    def _name(self, author: str, incarnation: bytes) -> str:
        """A short name of an incarnation, with the number of its author."""
        if incarnation not in self._names:
            number = _short(author).removeprefix("node ") if author else "?"
            taken = sum(name.startswith(number) for name in self._names.values())
            self._names[incarnation] = f"{number}{string.ascii_lowercase[taken % 26]}"
        return self._names[incarnation]


def value(n: int, name: str = "") -> str:
    """A value as the powers of two in it, or as a number for a counter of any amounts."""
    return str(n) if name.startswith(PLAIN) else "{" + ",".join(map(str, bits(n))) + "}"


def vars_of(message: messages.Message) -> Iterable[object]:
    """A message's fields."""
    return (getattr(message, name) for name in message.__struct_fields__)


def _membership(membership: Membership) -> str:
    members = ",".join(_short(address).removeprefix("node ") for address in membership.actors)
    return f"config {membership.version} of [{members}]"


def _short(who: str) -> str:
    return f"node {who.removeprefix('10.0.0.').partition(':')[0]}" if ":" in who else who


class _LogLines:
    """Adds the nodes' own log lines to the film."""

    def __init__(self, film: Film) -> None:
        self._film = film

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        fields: Mapping[str, object] = {key: field for key, field in event.items() if key not in ("event", "file")}
        shown = " ".join(f"{key}={field}" for key, field in fields.items())
        self._film.add(PROCESS.get() or "?", f"log {method}: {event['event']} {shown}".rstrip())
        raise structlog.DropEvent


def direct_logs(film: Film) -> None:
    """Send the nodes' log lines to the film, or nowhere."""
    if film.rolling:
        structlog.configure(processors=[_LogLines(film)], cache_logger_on_first_use=False)
    else:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
