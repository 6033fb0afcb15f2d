"""The states of a connection: what it is in use for, what receives its input, and whether anything more is sent.

There are three state machines, as h11 has one for each side of a connection. Each is a table: for an event, it has the
state that follows each state in which the event may happen. A pair that is not in the table is a mistake of the
program, and `after` raises an error.
"""

from collections.abc import Mapping
from enum import IntEnum  # not Enum: its members are hashed without a call, and each request looks some up
from typing import Final, TypeVar


class Phase(IntEnum):
    """What a connection is in use for."""

    IDLE = 0  # between two requests
    BUSY = 1  # a request, or a websocket, is in progress
    IDLE_LINK = 2  # a link of another node, whose websocket is not in progress
    BUSY_LINK = 3  # a link of another node
    CLOSING = 4  # the last answer was sent; the peer has a moment to read it
    CLOSED = 5


class Use(IntEnum):
    """What changes the phase."""

    REQUEST = 0  # a request begins
    RESPONSE = 1  # its response is complete
    PROMOTE = 2  # it becomes a link
    CLOSE = 3
    ABORT = 4


class Inbound(IntEnum):
    """What receives the input. There is at most one receiver at a time."""

    FREE = 0  # nothing receives
    RECEIVING = 1  # a task receives
    WATCHED = 2  # the reactor receives, while the task sleeps
    TAKEN_OVER = 3  # a link receives, until the end
    FINISHED = 4  # the peer has finished sending; each later call finds that again


class Reception(IntEnum):
    """What changes the receiver."""

    RECEIVE = 0  # a task begins to receive
    RECEIVED = 1  # the task has received something, or was cancelled
    WATCH = 2  # the reactor begins to receive
    WAKE = 3  # the reactor stops receiving; also called when it had not begun
    TAKE_OVER = 4  # a link begins to receive
    END = 5  # the end of the input was found


class Outbound(IntEnum):
    """Whether anything more is sent."""

    OPEN = 0
    ENDING = 1  # an answer that was begun is still sent, and no other one is begun
    ENDED = 2


class Sending(IntEnum):
    """What changes whether anything more is sent."""

    END = 0
    ENDED = 1


PHASES: Final[Mapping[Use, Mapping[Phase, Phase]]] = {
    Use.REQUEST: {
        Phase.IDLE: Phase.BUSY,
        Phase.BUSY: Phase.BUSY,
        Phase.IDLE_LINK: Phase.BUSY_LINK,
        Phase.BUSY_LINK: Phase.BUSY_LINK,
        Phase.CLOSING: Phase.CLOSING,
        Phase.CLOSED: Phase.CLOSED,  # an increment of a client that has left is finished all the same
    },
    Use.RESPONSE: {
        Phase.IDLE: Phase.IDLE,
        Phase.BUSY: Phase.IDLE,
        Phase.IDLE_LINK: Phase.IDLE_LINK,
        Phase.BUSY_LINK: Phase.IDLE_LINK,
        Phase.CLOSING: Phase.CLOSING,
        Phase.CLOSED: Phase.CLOSED,
    },
    Use.PROMOTE: {
        Phase.IDLE: Phase.IDLE_LINK,
        Phase.BUSY: Phase.BUSY_LINK,
    },
    Use.CLOSE: {
        Phase.IDLE: Phase.CLOSING,
        Phase.BUSY: Phase.CLOSING,
        Phase.IDLE_LINK: Phase.CLOSING,
        Phase.BUSY_LINK: Phase.CLOSING,
    },
    Use.ABORT: dict.fromkeys(Phase, Phase.CLOSED),
}

RECEPTION: Final[Mapping[Reception, Mapping[Inbound, Inbound]]] = {
    Reception.RECEIVE: {
        Inbound.FREE: Inbound.RECEIVING,
        Inbound.FINISHED: Inbound.FINISHED,
    },
    Reception.RECEIVED: {
        Inbound.RECEIVING: Inbound.FREE,
        Inbound.TAKEN_OVER: Inbound.TAKEN_OVER,
        Inbound.FINISHED: Inbound.FINISHED,
    },
    Reception.WATCH: {
        Inbound.FREE: Inbound.WATCHED,
        Inbound.FINISHED: Inbound.FINISHED,
    },
    Reception.WAKE: {
        Inbound.FREE: Inbound.FREE,
        Inbound.RECEIVING: Inbound.RECEIVING,
        Inbound.WATCHED: Inbound.FREE,
        Inbound.TAKEN_OVER: Inbound.TAKEN_OVER,
        Inbound.FINISHED: Inbound.FINISHED,
    },
    Reception.TAKE_OVER: {
        Inbound.FREE: Inbound.TAKEN_OVER,
        Inbound.RECEIVING: Inbound.TAKEN_OVER,  # the task that receives is cancelled, and gets nothing more
        Inbound.TAKEN_OVER: Inbound.TAKEN_OVER,
        Inbound.FINISHED: Inbound.TAKEN_OVER,
    },
    Reception.END: {
        Inbound.FREE: Inbound.FINISHED,
        Inbound.RECEIVING: Inbound.FINISHED,
        Inbound.TAKEN_OVER: Inbound.TAKEN_OVER,
        Inbound.FINISHED: Inbound.FINISHED,
    },
}

SENDING: Final[Mapping[Sending, Mapping[Outbound, Outbound]]] = {
    Sending.END: {
        Outbound.OPEN: Outbound.ENDING,
        Outbound.ENDING: Outbound.ENDING,
        Outbound.ENDED: Outbound.ENDED,
    },
    Sending.ENDED: {
        Outbound.ENDING: Outbound.ENDED,
        Outbound.ENDED: Outbound.ENDED,
    },
}

_Event = TypeVar("_Event", bound=IntEnum)
_State = TypeVar("_State", bound=IntEnum)


def after(table: Mapping[_Event, Mapping[_State, _State]], event: _Event, state: _State) -> _State:
    """The state that follows an event.

    Args:
        table: `PHASES`, `RECEPTION` or `SENDING`.
        event: what happens.
        state: in which it happens.

    Raises:
        AssertionError: it can't happen in that state.
    """
    following = table[event].get(state)
    assert following is not None, f"{event!r} can't happen to a connection that is {state!r}"
    return following
