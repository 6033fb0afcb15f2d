"""What two nodes say to each other: one MessagePack array per websocket message, the first element names its kind.

The node that dialled pushes and asks, the one that accepted only answers:

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

Fields with a default were added later: a node that does not know them passes over them, one that misses them takes the
default. `decode` lets nothing through that is not well-formed and within limits, so that the layers above can trust
every field.
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
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.membership import Membership, valid_address
from gcount.errors import ProtocolError

PROTOCOL = 1


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Who is speaking, and what it knows.

    Args:
        protocol: the version of this page.
        cluster: nodes of different clusters do not talk.
        node: made with the data directory.
        boot: made at each start.
        incarnation: whose cells the node raises now.
        retired: those it raised before.
        membership: what it knows of the cluster.
        digest: what it has on disk.
        duplicate: the other end's node was met in two living processes.
        challenge: of the end that dialled: random, so that a node knows its own hello when it comes in at its own door;
            the answer repeats it.
        entry: the speaker's own entry in the membership; empty when it knows of none.
        seen: of the end that accepted: versions of the other end's lives that it has seen or heard of, not on disk.
        resumes: of the end that dialled: the transfer that a lost link interrupted; 0 when there is none.
        kept: of the end that accepted: how many parcels of that transfer it has kept.
    """

    protocol: int
    cluster: str
    node: bytes
    boot: bytes
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


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The accepting node will not talk.

    Args:
        reason: why.
        config: the version of its membership, for who posts a config that names it; 0 when that is nobody's business.
    """

    reason: str
    config: int = 0


class Push(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """One parcel of the deltas that the other end lacks; all parcels up to the `last` one are joined in one step.

    Args:
        number: counts the pushes of a link, from 1.
        last: whether the parcels are whole with this one.
        deltas: of this node's own changes, and of those that others have not told in time.
        urgent: whether somebody waits for the acknowledgement.
        transfer: names the parcels up to the last one, so that another link can go on with them; 0: it can't.
    """

    number: int
    last: bool
    deltas: list[Delta]
    urgent: bool = False
    transfer: int = 0


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer to a Push: for the last parcel only when it is on disk.

    Args:
        number: the push's.
        digest: the versions that changed since the last message on this link.
        refused: why the push was not taken; empty when it was.
        kept: all that was given back of the answering node's former lives is on its disk, if only detached.
    """

    number: int
    digest: Digest
    refused: str = ""
    kept: bool = False


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Still here."""


class HeartbeatAck(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Still here, too; with the versions that changed since the last message on this link.

    Args:
        digest: those versions.
        membership: the answering node's, if the other one may not know it (nobody dials who is no member).
        owes: the answering node has something of the other one's former lives detached, and has not heard that it is
            on the other one's disk.
    """

    digest: Digest
    membership: Membership | None = None
    owes: bool = False


class ReadCells(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """One round of a consistent read asks for a counter's cells.

    Args:
        round: counts the asking node's rounds.
        name: the counter.
        hold: whether increments of it shall wait until Release.
    """

    round: int
    name: str
    hold: bool


class CellsReply(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The cells that the answering node has on disk, and its membership if the asking node may not know it."""

    round: int
    cells: dict[bytes, int]
    membership: Membership | None = None


class Release(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The asking node's reads of that counter are over."""

    name: str


class Members(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The membership changed."""

    membership: Membership


Message = Hello | Refused | Push | Ack | Heartbeat | HeartbeatAck | ReadCells | CellsReply | Release | Members

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message's bytes."""
    return _encoder.encode(message)


def decode(data: bytes | str | None) -> Message:
    """The message in what a websocket delivered.

    Args:
        data: None stands for an empty frame, as the websocket library delivers it; text is not allowed.

    Raises:
        ProtocolError: it is not a well-formed message within all limits.
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
    """What is beyond bounds in a message; empty when nothing is."""
    match message:
        case Hello():
            return _problem_of_hello(message)
        case Refused(config=version):
            return _out_of_range(version)
        case Push(number=number, deltas=deltas, transfer=transfer):
            return (
                _out_of_range(number)
                or _out_of_range(transfer)
                or next(filter(None, map(_problem_of_delta, deltas)), "")
            )
        case Ack(number=number, digest=digest):
            return _out_of_range(number) or _problem_of_digest(digest)
        case HeartbeatAck(digest=digest, membership=membership):
            bad = membership is not None and not membership.valid()
            return _problem_of_digest(digest) or ("a bad membership" if bad else "")
        case ReadCells(round=number, name=name):
            return _out_of_range(number) or ("" if valid_name(name) else "a bad name")
        case CellsReply(round=number, cells=cells, membership=membership):
            bad = membership is not None and not membership.valid()
            return _out_of_range(number) or _problem_of_digest(cells, MAX_CELL) or ("a bad membership" if bad else "")
        case Release(name=name):
            return "" if valid_name(name) else "a bad name"
        case Members(membership=membership):
            return "" if membership.valid() else "a bad membership"
    return ""


def _problem_of_hello(hello: Hello) -> str:
    if any(len(id_) != ID_BYTES for id_ in (hello.node, hello.boot, hello.incarnation, *hello.retired)):
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
    numbers = _out_of_range(hello.resumes) or _out_of_range(hello.kept)
    return numbers or _problem_of_digest(hello.digest) or _problem_of_digest(hello.seen)


def _problem_of_digest(digest: dict[bytes, int], limit: int = MAX_VERSION) -> str:
    if len(digest) > MAX_INCARNATIONS:
        return "too many incarnations"
    for incarnation, n in digest.items():
        if len(incarnation) != ID_BYTES or not 0 < n <= limit:
            return "a bad incarnation or number"
    return ""


def _problem_of_delta(delta: Delta) -> str:
    # From a version to itself: what is left of rot, detached behind a gap, and given back to its owner.
    if len(delta.incarnation) != ID_BYTES or not 0 <= delta.after <= delta.upto <= MAX_VERSION or not delta.upto:
        return "a delta with a bad incarnation or version"
    for name, n in delta.cells.items():
        if not 0 < n <= MAX_CELL or not valid_name(name):
            return "a delta with a bad name or value"
    return ""


def _out_of_range(number: int) -> str:
    return "" if 0 <= number <= MAX_VERSION else "a number out of range"
