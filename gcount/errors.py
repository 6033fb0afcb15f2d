"""Every way in which gcount can say no.

Three families, by who has to act: a `Refusal` answers one request and changes nothing; a `LinkError` ends one link to a
peer and is followed by another dial; a `Fatal` ends the process with one line that says what the operator can do.
"""

import shlex
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar


class GcountError(Exception):
    """The root of all errors that gcount raises on purpose."""


class Refusal(GcountError):
    """A request that is answered with an error and changed nothing.

    Each kind knows how every protocol answers it. Its codes are promised to clients, listed in docs/api.md, and never
    renamed.

    Attributes:
        status: the HTTP status.
        code: a word for programs that speak HTTP.
        redis_code: what an error of Redis' protocol begins with.
    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    redis_code: ClassVar[str] = "ERR"

    @property
    def members(self) -> Mapping[str, object]:
        """What programs may want to know, besides the code; ready for JSON."""
        return {}


class BadRequest(Refusal):
    """The request itself is wrong; which part of it, the classes below say."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"


class BadName(BadRequest):
    """A counter can't be called that."""

    code = "bad_name"


class BadAmount(BadRequest):
    """What is to be counted is no amount."""

    code = "bad_amount"


class BadConfig(BadRequest):
    """No membership can be made of a posted config."""

    code = "bad_config"


class BadParameter(BadRequest):
    """A query parameter has a value that is not allowed."""

    code = "bad_parameter"


class UnknownParameter(BadRequest):
    """A query parameter means nothing to its route."""

    code = "unknown_parameter"


class ForeignOrigin(Refusal):
    """A page that is not the node's own made a browser ask for a change, or for a link."""

    status = HTTPStatus.FORBIDDEN
    code = "foreign_origin"


class PartLimitReached(Refusal):
    """This node's own part of a counter would pass 2^64-1."""

    status = HTTPStatus.CONFLICT
    code = "part_limit"
    redis_code = "ERR increment or decrement would overflow:"


class CounterLimitReached(Refusal):
    """A new name would pass the limit of counters; names already known go on."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "counter_limit"
    redis_code = "OOM"


class IncarnationLimitReached(Refusal):
    """The increment would need a new incarnation, and there are as many as the cluster can hold."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "incarnation_limit"
    redis_code = "OOM"


class DiskFull(Refusal):
    """The increment could not be written for want of space, or of a file descriptor; nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "disk_full"
    redis_code = "MISCONF"


class Recovering(Refusal):
    """The node has not finished its start yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "recovering"
    redis_code = "LOADING"


class ReadUnavailable(Refusal):
    """A consistent read could not be known in time.

    Args:
        value: the best lower bound known here.
        missing: the addresses of the members that did not answer.
        doubles: pairs of members' addresses for which one and the same node answered.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "read_unavailable"
    redis_code = "UNAVAILABLE"

    def __init__(self, value: int, missing: Sequence[str], doubles: Sequence[tuple[str, str]] = ()) -> None:
        why = [f"{one} and {other} lead to one node, each member has to be another one" for one, other in doubles]
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
    """A link to a peer is over."""


class LinkClosed(LinkError):
    """The other end went away, or could not be reached, or was silent for too long."""


class ProtocolError(LinkError):
    """The other end sent what the protocol does not allow."""


class LinkRefused(LinkError):
    """One end will not talk to the other, and says why.

    Args:
        reason: why.
        config: the version of the config that the other end has told; 0 if none.
    """

    def __init__(self, reason: str, config: int = 0) -> None:
        super().__init__(reason)
        self.config = config


class Fatal(GcountError):
    """The process has to end; its text is the one line that the operator reads."""


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
            f"`bin/gcount repair {directory}` tells what can be kept, and how"
        )
        self.file = file
        self.offset = offset


class NotRepairable(Fatal):
    """A directory's segments contradict each other in a way that rot does not explain."""


class DiskFailed(Fatal):
    """The disk failed a write or a sync; what it holds is known again only after a restart."""


class NotInPlace(DiskFailed):
    """What the node writes to is no longer what is found at its path: what it acknowledged would be lost.

    Args:
        path: of the live segment, or of the data directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was deleted, moved or replaced under the running node, which acknowledges nothing any more. "
            f"Put the data directory back; or start on an empty one, and the members give back what they have"
        )


class Unreadable(DiskFailed):
    """A file of the data directory can't be read at all.

    Args:
        file: its path.
        reason: the system's.
        bad: whether it is the disk that can't read it.
    """

    def __init__(self, file: str, reason: str, *, bad: bool) -> None:
        directory = shlex.quote(file.rpartition("/")[0] or ".")
        advice = (
            f". Look at the disk: copy the file with a tool that skips bad sectors, put the copy in its place, "
            f"then `bin/gcount repair {directory}` tells what can be kept"
        )
        super().__init__(f"{file} can't be read: {reason}{advice if bad else ''}")


class Busy(Fatal):
    """A running node changes its data directory too fast for somebody else to look at it."""


class DirectoryInUse(Fatal):
    """Another process holds the data directory."""


class AddressTaken(Fatal):
    """The listen address cannot be had."""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors inside a group of groups, in order."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
