"""The messages of a link: each is one MessagePack array in one websocket message, and its first element is its kind.

The node that dialled pushes and asks; the node that accepted only answers:

    dials                                   accepts
    Hello ------------------------------->
                                     <----- Hello | Refused
    Push (pieces of deltas) ------------->
                                     <----- Ack (what is on disk now)
    Heartbeat, each 0.25 s -------------->
                                     <----- HeartbeatAck
    ReadCells (one round of a read) ----->
                                     <----- CellsReply
    Release, Members -------------------->

Fields with a default were added later. A node that does not know them ignores them, and a node to which they are not
sent takes the default. `decode` rejects every message that is not well-formed and within all limits, so that the code
above can trust each field.
"""

import msgspec

from gcount.core.limits import (
    ID_BYTES,
    MAX_CELL,
    MAX_CLUSTER_BYTES,
    MAX_INCARNATIONS,
    MAX_MESSAGE_BYTES,
    MAX_VERSION,
    valid_name,
)
from gcount.core.protocol.counter_views import Told
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.ids import split
from gcount.core.state.keyed import Keyed, is_entry
from gcount.core.state.membership import Membership, valid_address
from gcount.errors import ProtocolError

PROTOCOL = 1  # nodes refuse each other when it differs; what newer nodes understand shows in fields with a default


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message of each end: the identity of the sender, and what it knows.

    Args:
        protocol: the version of the protocol.
        cluster: the name of the cluster; nodes of different clusters do not talk.
        node: the sender's node id, drawn when its data directory is made.
        start_id: the id of this start of the sender's process.
        incarnation: the sender's present incarnation.
        retired: its former incarnations.
        membership: its membership.
        digest: what it has on disk.
        duplicate: whether it found two live processes with the receiver's node id.
        challenge: random bytes from the end that dialled, repeated in the answer. From them a node recognizes its own
            hello when it dialled itself.
        entry: the sender's own entry in the membership; empty when it knows of none.
        seen: only from the end that accepted: versions of the receiver's incarnations that the sender has seen or heard
            of, but does not have on disk.
        resumes: only from the end that dialled: the id of the transfer that a lost link interrupted; 0 when there is
            none.
        kept: only from the end that accepted: how many chunks of that transfer it has kept.
        floor: the sender takes no id with a time up to here any more, in seconds since 1970; None from a node that does
            not understand ids of increments.
        window: for how many seconds after its time the sender takes an id; 0 from a node that does not tell it.
    """

    protocol: int
    cluster: str
    node: bytes
    start_id: bytes
    incarnation: bytes
    retired: list[bytes]
    membership: Membership
    digest: Digest
    duplicate: bool = False
    challenge: bytes = b""
    entry: str = ""
    seen: Digest = {}
    resumes: int = 0
    kept: int = 0
    floor: int | None = None
    window: float = 0.0

    @property
    def knows_ids(self) -> bool:
        """Whether the sender understands ids of increments."""
        return self.floor is not None


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The accepting node refuses the link.

    Args:
        reason: why, in words.
        config: the version of its membership, for a node that posts a config in which this node is an entry; 0 when
            the caller may not know it.
    """

    reason: str
    config: int = 0


class Push(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """One chunk of the deltas that the receiver lacks. All chunks up to the `last` one are joined in one step.

    Args:
        number: counts the pushes of a link, from 1.
        last: whether this is the last chunk of the transfer.
        deltas: pieces of deltas: the sender's own changes, and those of other nodes that are to be relayed.
        urgent: whether a client waits for the acknowledgement.
        transfer: the id of the transfer, with which another link can continue it; 0 when none can.
        needs: only with the last chunk: by settler, its version with the newest settlement that the sender knew when
            the transfer began. Entries that these settlements cover were left out of the deltas.
    """

    number: int
    last: bool
    deltas: list[Delta]
    urgent: bool = False
    transfer: int = 0
    needs: Digest = {}


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer to a Push. For the last chunk it is sent only when all of the transfer is on disk.

    Args:
        number: the number of the push.
        digest: the versions that changed since the last message on this link.
        refused: why the push was not taken; empty when it was.
        kept: whether all that the transfer gave back is on the sender's disk, joined or detached.
    """

    number: int
    digest: Digest
    refused: str = ""
    kept: bool = False


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A message every 0.25 s that shows that the node is alive."""


class HeartbeatAck(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The answer to a Heartbeat.

    Args:
        digest: the versions that changed since the last message on this link.
        membership: the sender's membership, if the receiver may not know it. A node that is not a member learns it
            only so, because members do not dial it.
        owes: whether the sender has detached deltas of the receiver's former incarnations, and does not know yet that
            they are on the receiver's disk.
        floor: the sender takes no id with a time up to here any more, in seconds since 1970. What it has on disk of ids
            up to there is in the digests that it has told by now.
    """

    digest: Digest
    membership: Membership | None = None
    owes: bool = False
    floor: int = 0


class ReadCells(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The question of one round of a consistent read: the cells of a counter.

    Args:
        round: the number of the round at the node that asks.
        name: the counter.
        hold: whether the receiver's increments of the counter shall wait until Release.
        known: by incarnation, up to which version the sender knows the counter's entries. The answer tells newer ones,
            if they are few; none when this is None.
    """

    round: int
    name: str
    hold: bool
    known: Digest | None = None


class CellsReply(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The answer to ReadCells.

    Args:
        round: the number of the round.
        cells: the cells that the sender has on disk.
        membership: the sender's membership, if the receiver may not know it.
        parts: by column, what the settled ids of the counter came to.
        changed: by incarnation, its newest version in which an entry of the counter changed that is not settled.
        told: the entries up to these versions that the receiver lacks; None when they are not told.
    """

    round: int
    cells: dict[bytes, int]
    membership: Membership | None = None
    parts: dict[bytes, int] = {}
    changed: Digest = {}
    told: Told | None = None


class Release(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Ends the hold that the sender's reads of a counter asked for."""

    name: str


class Members(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The sender's membership, which changed."""

    membership: Membership


Message = Hello | Refused | Push | Ack | Heartbeat | HeartbeatAck | ReadCells | CellsReply | Release | Members

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message's bytes."""
    return _encoder.encode(message)


def decode(data: bytes | str | None) -> Message:
    """The message in the payload of a websocket message.

    Args:
        data: the payload. None stands for an empty message, and text is rejected.

    Raises:
        ProtocolError: the payload is not a well-formed message within all limits.
    """
    if not isinstance(data, bytes) or not data:
        raise ProtocolError("a message must be a binary frame that is not empty")
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message has {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    try:
        message = _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, and so are UTF-8's
        raise ProtocolError(f"a message can't be read: {error}") from None
    problem = _problem(message)
    if problem:
        raise ProtocolError(f"a {type(message).__name__} has {problem}")
    return message


def _problem(message: Message) -> str:
    """Which limit a message breaks, in words; empty when it breaks none."""
    match message:
        case Hello():
            return _problem_of_hello(message)
        case Refused(config=version):
            return _out_of_range(version)
        case Push(number=number, deltas=deltas, transfer=transfer, needs=needs):
            return (
                _out_of_range(number)
                or _out_of_range(transfer)
                or _problem_of_digest(needs)
                or next(filter(None, map(_problem_of_delta, deltas)), "")
            )
        case Ack(number=number, digest=digest):
            return _out_of_range(number) or _problem_of_digest(digest)
        case HeartbeatAck(digest=digest, membership=membership, floor=floor):
            bad = membership is not None and not membership.valid()
            return _problem_of_digest(digest) or ("a bad membership" if bad else "") or _out_of_range(floor)
        case ReadCells(round=number, name=name, known=known):
            problem = _out_of_range(number) or _problem_of_digest(known or {})
            return problem or ("" if valid_name(name) else "a bad name")
        case CellsReply():
            return _problem_of_reply(message)
        case Release(name=name):
            return "" if valid_name(name) else "a bad name"
        case Members(membership=membership):
            return "" if membership.valid() else "a bad membership"
    return ""


def _problem_of_hello(hello: Hello) -> str:
    if any(len(id_) != ID_BYTES for id_ in (hello.node, hello.start_id, hello.incarnation, *hello.retired)):
        return "an id of a wrong length"
    if len(hello.retired) > MAX_INCARNATIONS:
        return "too many retired incarnations"
    if len(hello.cluster.encode()) > MAX_CLUSTER_BYTES:
        return "a cluster name that is too long"
    if not hello.membership.valid():
        return "a bad membership"
    if len(hello.challenge) not in (0, ID_BYTES):
        return "a challenge of a wrong length"
    if hello.entry and not valid_address(hello.entry):
        return "a bad entry"
    if not 0 <= hello.window <= MAX_VERSION:
        return "a window out of range"
    numbers = _out_of_range(hello.resumes) or _out_of_range(hello.kept) or _out_of_range(hello.floor or 0)
    return numbers or _problem_of_digest(hello.digest) or _problem_of_digest(hello.seen)


def _problem_of_reply(reply: CellsReply) -> str:
    if reply.membership is not None and not reply.membership.valid():
        return "a bad membership"
    numbers = _out_of_range(reply.round) or _problem_of_digest(reply.cells, MAX_CELL)
    digests = _problem_of_digest(reply.parts, MAX_CELL) or _problem_of_digest(reply.changed)
    return numbers or digests or ("" if reply.told is None else _problem_of_told(reply.told, reply.changed))


def _problem_of_told(told: Told, changed: Digest) -> str:
    for holder, entries in told.entries.items():
        if holder not in changed or not all(is_entry(id_, *entry, changed[holder]) for id_, entry in entries.items()):
            return "a bad entry"
    return _problem_of_digest(told.needs)


def _problem_of_digest(digest: dict[bytes, int], limit: int = MAX_VERSION) -> str:
    if len(digest) > MAX_INCARNATIONS:
        return "too many incarnations"
    for incarnation, n in digest.items():
        if len(incarnation) != ID_BYTES or not 0 < n <= limit:
            return "a bad incarnation or number"
    return ""


def _problem_of_delta(delta: Delta) -> str:
    # A delta from a version to itself is legal: it is what rot has left of one, detached and given back to its owner.
    if len(delta.incarnation) != ID_BYTES or not 0 <= delta.after <= delta.upto <= MAX_VERSION or not delta.upto:
        return "a delta with a bad incarnation or version"
    for name, n in delta.cells.items():
        if not 0 < n <= MAX_CELL or not valid_name(name):
            return "a delta with a bad name or value"
    return "" if delta.keyed is None else _problem_of_keyed(delta.keyed, delta.upto)


def _problem_of_keyed(keyed: Keyed, upto: int) -> str:
    for key, (total, version) in keyed.entries.items():
        id_, name = split(key)
        if not (is_entry(id_, total, version, upto) and valid_name(name)):
            return "a delta with a bad entry of an id"
    if len(keyed.settled) > MAX_INCARNATIONS:
        return "a delta with too many settlements"
    for column, settlement in keyed.settled.items():
        # It covers entries, so it is of a version that exists. (A stranger's of version 0 would need no proof.)
        versions = 0 < settlement.version <= MAX_VERSION
        if len(column) != ID_BYTES or _out_of_range(settlement.until) or not versions:
            return "a delta with a bad settlement"
        for name, n in settlement.parts.items():
            if not 0 < n <= MAX_CELL or not valid_name(name):
                return "a delta with a bad settled part"
    return ""


def _out_of_range(number: int) -> str:
    return "" if 0 <= number <= MAX_VERSION else "a number out of range"
