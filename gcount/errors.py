"""All errors that gcount raises on purpose, in three families.

They differ by who has to act. A `Refusal` answers one request, changes nothing, and the client decides what to do. A
`LinkError` ends one link to a peer, and the node dials again. A `Fatal` ends the process with one line that says what
the operator can do.
"""

import shlex
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar


class GcountError(Exception):
    """The root of all errors that gcount raises on purpose."""


class Refusal(GcountError):
    """A request is answered with an error, and has changed nothing.

    Each class has the codes that answer it in each protocol. Clients rely on these codes: they are listed in
    docs/api.md and never renamed.

    Attributes:
        status: the HTTP status.
        code: a word for programs that speak HTTP.
        redis_code: the beginning of the error in the Redis protocol.
    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    redis_code: ClassVar[str] = "ERR"

    @property
    def members(self) -> Mapping[str, object]:
        """Further members of the problem document, for programs; ready for JSON."""
        return {}


class BadRequest(Refusal):
    """The request itself is wrong. The classes below say which part of it."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"


class BadName(BadRequest):
    """The name of a counter is not allowed."""

    code = "bad_name"


class BadAmount(BadRequest):
    """The amount of an increment is not allowed."""

    code = "bad_amount"


class BadConfig(BadRequest):
    """A posted config is not valid."""

    code = "bad_config"


class BadParameter(BadRequest):
    """The value of a query parameter is not allowed."""

    code = "bad_parameter"


class UnknownParameter(BadRequest):
    """The route does not know a query parameter."""

    code = "unknown_parameter"


class BadId(BadRequest):
    """The id of an increment is malformed, or does not say when it was made."""

    code = "bad_id"


class ForeignOrigin(Refusal):
    """A page of another origin made a browser ask for a change, or for a link."""

    status = HTTPStatus.FORBIDDEN
    code = "foreign_origin"


class PartLimitReached(Refusal):
    """This node's own part of a counter would pass 2^64-1."""

    status = HTTPStatus.CONFLICT
    code = "part_limit"
    redis_code = "ERR increment or decrement would overflow:"


class CounterLimitReached(Refusal):
    """A new name would pass the limit of counters. Increments of known names are still taken."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "counter_limit"
    redis_code = "OOM"


class IncarnationLimitReached(Refusal):
    """The increment would need a new incarnation, and the cluster has as many as the limit allows."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "incarnation_limit"
    redis_code = "OOM"


class IdGone(Refusal):
    """The id of an increment is older than the retry window, and not known any more.

    Whether it was counted cannot be told. It is never counted again.
    """

    status = HTTPStatus.GONE
    code = "id_gone"
    redis_code = "GCGONE"


class IdConflict(Refusal):
    """The id of an increment is known with another amount."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "id_conflict"
    redis_code = "GCCONFLICT"


class IdAhead(IdConflict):
    """The id of an increment was made in the future, by this node's clock."""

    code = "id_ahead"


class IdLimitReached(Refusal):
    """A new id would pass the limit of ids that are not settled. Increments without an id are still taken."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "id_limit"
    redis_code = "OOM"


class IdsUnavailable(Refusal):
    """Not all members are known to understand ids. Increments without an id are still taken."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "ids_unavailable"
    redis_code = "UNAVAILABLE"


class IdUnknown(Refusal):
    """Nothing is known here of an id of a counter: it has not come, or it is settled."""

    status = HTTPStatus.NOT_FOUND
    code = "id_unknown"


class DiskFull(Refusal):
    """The increment could not be written, for lack of space or of a file descriptor. Nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "disk_full"
    redis_code = "MISCONF"


class Recovering(Refusal):
    """The node has not finished its start yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "recovering"
    redis_code = "LOADING"


class ReadUnavailable(Refusal):
    """The exact value could not be known in time.

    Args:
        value: the best lower bound that this node knows.
        missing: the addresses of the members that did not answer.
        doubles: pairs of members' addresses at which the same node answered.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "read_unavailable"
    redis_code = "UNAVAILABLE"

    def __init__(self, value: int, missing: Sequence[str], doubles: Sequence[tuple[str, str]] = ()) -> None:
        why = [f"{one} and {other} lead to one node, but each member must be another node" for one, other in doubles]
        silent = [address for address in missing if not any(address in pair for pair in doubles)]
        if silent or not why:
            why.append(f"no answer from {', '.join(silent)}" if silent else "try again with a longer timeout")
        super().__init__(f"the exact value could not be known in time; {'; '.join(why)}")
        self.value = value
        self.missing = list(missing)

    @property
    def members(self) -> Mapping[str, object]:
        """The best lower bound, and the addresses of the members that did not answer."""
        return {"value": self.value, "missing": self.missing}


class LinkError(GcountError):
    """A link to a peer ends."""


class LinkClosed(LinkError):
    """The other end has left, could not be reached, or was silent for too long."""


class ProtocolError(LinkError):
    """The other end sent something that the protocol does not allow."""


class LinkRefused(LinkError):
    """One end refuses the link, and says why.

    Args:
        reason: why.
        config: the version of the other end's config, as its hello has it; 0 if it has none.
    """

    def __init__(self, reason: str, config: int = 0) -> None:
        super().__init__(reason)
        self.config = config


class Fatal(GcountError):
    """The process has to end. The text is the one line that the operator reads."""


class LogDamaged(Fatal):
    """A record that was once synced can no longer be read.

    Args:
        file: the path of the segment.
        offset: where in the segment the damage begins, in bytes.
        reason: what is wrong there.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        directory = shlex.quote(file.rpartition("/")[0] or ".")
        super().__init__(
            f"the log is damaged: {file} at offset {offset}: {reason}. Nothing was changed. "
            f"`bin/gcount verify {directory}` shows all damage; "
            f"`bin/gcount repair {directory}` shows what a repair would keep"
        )
        self.file = file
        self.offset = offset


class NotRepairable(Fatal):
    """The files of a data directory contradict each other in a way that rot does not explain."""


class DiskFailed(Fatal):
    """A write or a sync failed. Only a restart can find out what is on the disk."""


class NotInPlace(DiskFailed):
    """The file or directory at a path is no longer the one to which the node writes.

    Everything that the node acknowledged from then on would be lost.

    Args:
        path: the path of the live segment, or of the data directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was deleted, moved or replaced under the running node, which acknowledges nothing any more. "
            f"Put the data directory back, or start on an empty one: the members then give back what they have"
        )


class Unreadable(DiskFailed):
    """A file of the data directory can't be read at all.

    Args:
        file: its path.
        reason: the system's reason.
        bad: whether the disk itself fails to read it.
    """

    def __init__(self, file: str, reason: str, *, bad: bool) -> None:
        directory = shlex.quote(file.rpartition("/")[0] or ".")
        advice = (
            f". Check the disk: copy the file with a tool that skips bad sectors, and put the copy in its place; "
            f"then `bin/gcount repair {directory}` shows what a repair would keep"
        )
        super().__init__(f"{file} can't be read: {reason}{advice if bad else ''}")


class Busy(Fatal):
    """A running node changes the files of its data directory faster than they can be checked."""


class DirectoryInUse(Fatal):
    """Another process uses the data directory."""


class AddressTaken(Fatal):
    """The node can't listen on its address."""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors inside a group of groups, in order."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
