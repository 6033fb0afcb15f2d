"""What a simulated run did, as the laws judge it: operations, lives, troubles, and a journal of what was on which disk.

A *line* is what one data directory goes through until it is made to forget (lost, or an older copy put in its place):
"10.0.0.1:7777#2" is the third line at that address.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from gcount.core.state.counters import Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership

PLAIN = "p"  # names that begin so are counted by any amounts; all others by powers of two, each used once


@dataclass
class Increment:
    """An increment; without `end` it was not answered, with `refused` it was answered with an error.

    Those of one request have the same `batch`; one alone has 0.
    """

    name: str
    amount: int
    host: str
    line: str
    start: float
    end: float | None = None
    answer: int = 0
    refused: str = ""
    batch: int = 0

    @property
    def acknowledged(self) -> bool:
        return self.end is not None and not self.refused


@dataclass
class Query:
    """A consistent read; without `value` it was not answered.

    It `began_alone` when no config told then whom to ask, and is `alone` when none did until it was answered.
    """

    name: str
    host: str
    line: str
    start: float
    end: float = 0.0
    value: int | None = None
    began_alone: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Look:
    """What a node said a counter's value is; of no earlier instant than `since`."""

    since: float
    time: float
    line: str
    name: str
    value: int


@dataclass(frozen=True)
class Glance:
    """What a node knew of many counters at one instant."""

    time: float
    line: str
    values: dict[str, int]


@dataclass
class Life:
    """One start of a node, and how it ended: by itself if there is a `failure`, which `expected` may explain."""

    host: str
    line: str
    began: float
    ready: float | None = None
    ended: float | None = None
    failure: BaseException | None = None
    expected: str = ""
    must_end: bool = False  # what is expected has happened


@dataclass
class Trouble:
    """A time in which a node was stopped, or its disk could not serve."""

    host: str
    start: float
    end: float = float("inf")


@dataclass(frozen=True)
class Stored:
    """A batch, or what a directory was made with, is durable in a directory."""

    time: float
    line: str
    deltas: tuple[Delta, ...]
    identity: Identity | None = None  # of the directory's node from now on, if it changed
    number: int = 0  # of the batch


@dataclass(frozen=True)
class Repaired:
    """A directory rotted and was repaired; a new line begins, which goes on from `line`."""

    time: float
    line: str
    new_line: str
    whole: tuple[Delta, ...]  # what the rot has left, in the order of the log
    lives: frozenset[bytes]  # the incarnations that what is left names as the node's own
    kept: tuple[Delta, ...]  # what is in the directory after the repair
    identity: Identity  # under which it goes on
    lossless: bool  # whether the repair says that nothing is lost


@dataclass(frozen=True)
class Forked:
    """A copy of a directory runs at the original's own address: from here on two write under one incarnation."""

    time: float
    line: str
    copy: str
    incarnation: bytes


@dataclass(frozen=True)
class Forgot:
    """A directory was lost or went back; a new line begins, which holds what is stored in it next."""

    time: float
    line: str


@dataclass(frozen=True)
class Claimed:
    """A node told others, or a client, what it has; `name` is set where the cells are those of one counter."""

    time: float
    line: str
    what: str
    digest: Digest
    deltas: tuple[Delta, ...] = ()
    name: str = ""
    detached: tuple[Delta, ...] | None = None  # the detached deltas in a checkpoint
    next_batch: int = 0  # the first one that a checkpoint need not hold


@dataclass(frozen=True)
class Waited:
    """A node told a client how many others have these versions on their disks."""

    time: float
    line: str
    versions: Digest
    holders: int


Content = tuple[tuple[bytes, int, tuple[str, ...]], ...]
"""Of a push: incarnations, their versions, and counters."""
Entry = Stored | Repaired | Forked | Forgot | Claimed | Waited


@dataclass(frozen=True)
class Final:
    """What a node held in the end, and what a replay of its log makes of it."""

    host: str
    cells: dict[str, dict[bytes, int]]
    digest: Digest
    membership: Membership
    identity: Identity
    replayed_cells: dict[str, dict[bytes, int]]
    replayed_digest: Digest
    replayed_membership: Membership
    replayed_identity: Identity
    damage: str = ""  # why no start can replay what is durable
    line: str = ""
    detached: tuple[Delta, ...] = ()
    forks: Mapping[bytes, int] | None = None  # incarnations of which it said that two histories exist, and from where


@dataclass
class History:
    """All of a run."""

    members: frozenset[str] = frozenset()  # the addresses that are in every config
    limits: dict[str, int] = field(default_factory=dict)  # how many counters clients may make at each address
    most_lives: int = 0  # how many incarnations there may be
    increments: list[Increment] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    glances: list[Glance] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    configured: dict[str, float] = field(default_factory=dict)  # when a config was first in force, by line
    finals: list[Final] = field(default_factory=list)
    doubled: set[bytes] = field(default_factory=set)  # incarnations that two processes ran under at once
    unlinked: list[str] = field(default_factory=list)  # links that did not come up in time, and when
    over: bool = False  # whether the run came to its end
    faults: Counter[str] = field(default_factory=Counter)
    config_agreed: bool = False  # by all members, before another one was posted
    healed_after: float | None = None  # seconds from the end of all faults until all nodes agreed
    round_trip: float = 0.0  # seconds that a message and its answer travel, on average
    healing: bool = False  # whether all faults have ended
    pushed: defaultdict[tuple[str, str], set[Content]] = field(default_factory=lambda: defaultdict(set))
    """What the pushes since then held, by sender and receiver."""
    taken_over: list[str] = field(default_factory=list)  # members that follow a copy which was told to stand alone
    lost_address: dict[str, float] = field(default_factory=dict)  # when a running node's address became another one's
    last_queries: list[Query] = field(default_factory=list)  # those of after the nodes had agreed
    repaired: bool = False  # whether a directory was, so that gaps may have to be closed
    relayed: bool = False  # whether something may only have come by a relay, or when it was offered again
