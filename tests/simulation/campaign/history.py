"""The history of a simulated run, as the laws judge it: operations, lives, troubles, and a journal of all disks.

A *line* is the life of one data directory until it is made to forget: until it is lost, or replaced by an older copy.
"10.0.0.1:7777#2" is the third line at that address.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from gcount.core.state import keyed
from gcount.core.state.batch import Batch, Needs
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.ids import key_of
from gcount.core.state.keyed import Covers
from gcount.core.state.membership import Membership

PLAIN = "p"  # counters whose names begin so get any amounts; all others get powers of two, each used once


@dataclass
class Increment:
    """An increment. Without `end` it was not answered; with `refused` it was answered with an error.

    The increments of one request have the same `batch`. An increment alone has 0.
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
    unit: bool = False  # whether it stands for a unit of an id, which was sent once or more often

    @property
    def acknowledged(self) -> bool:
        return self.end is not None and not self.refused


@dataclass
class Sent:
    """One time that an id was sent. The powers of two in `total` are its *units*; two more bits are left above each.

    So a value shows how often it contains each unit. A larger total of an id contains the units of the smaller ones.
    """

    name: str
    id: str
    total: int
    host: str
    line: str
    start: float
    clock: float  # of the node, in seconds since 1970
    member: bool  # whether the node is a member all the time
    together: bool = False  # whether it was sent in a group, of which all or nothing counts
    end: float | None = None
    answer: int = 0
    refused: str = ""

    @property
    def key(self) -> str:
        return key_of(self.name, self.id)

    @property
    def acknowledged(self) -> bool:
        return self.end is not None and not self.refused


@dataclass
class Query:
    """A consistent read. Without `value` it was not answered.

    `began_alone` says that the node knew of no config when the read began, `alone` that it knew of none until the end.
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
    """A local value that a node answered; it is of no earlier instant than `since`."""

    since: float
    time: float
    line: str
    name: str
    value: int


@dataclass(frozen=True)
class Values:
    """The values of many counters on a node at one instant."""

    time: float
    line: str
    values: dict[str, int]


@dataclass(frozen=True)
class Glance(Values):
    """Values that a client asked for."""


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
    """A time in which a node was stopped, or its disk did not work."""

    host: str
    start: float
    end: float = float("inf")


@dataclass(frozen=True)
class Stored:
    """A batch, or the first content of a directory, is durable."""

    time: float
    line: str
    deltas: tuple[Delta, ...]
    identity: Identity | None = None  # the identity of the directory's node from now on, if it changed
    number: int = 0  # the number of the batch
    floor: int | None = None  # up to which time its node takes no ids any more, if that changed
    members: tuple[str, ...] | None = None  # the config, if it changed
    own: bytes | None = None  # the incarnation of the node that wrote it; None if it was there when the line began
    needs: Needs | None = None  # the settlements without which some of the deltas can't be joined


@dataclass(frozen=True)
class Shown(Values):
    """What a node holds in memory at one instant."""

    digest: Digest
    entries: dict[str, dict[bytes, tuple[int, int]]]  # by key and holder: totals and versions
    covers: Covers


@dataclass(frozen=True)
class Repaired:
    """A directory rotted and was repaired; a new line begins, which goes on from `line`."""

    time: float
    line: str
    new_line: str
    whole: tuple[Batch, ...]  # the batches that the rot has left, in the order of the log
    lives: frozenset[bytes]  # the incarnations that the records left name as the node's own
    kept: tuple[Batch, ...]  # the batches in the directory after the repair
    identity: Identity  # the identity under which the node goes on
    lossless: bool  # whether the repair says that nothing is lost

    @property
    def deltas(self) -> tuple[Delta, ...]:
        """The deltas in the directory after the repair."""
        return tuple(delta for batch in self.kept for delta in batch.deltas)


@dataclass(frozen=True)
class Forked:
    """A copy of a directory runs at the original's own address: from here on two processes share one incarnation."""

    time: float
    line: str
    copy: str
    incarnation: bytes


@dataclass(frozen=True)
class Forgot:
    """A directory was lost, or replaced by an older copy. A new line begins; what it has is stored in it next."""

    time: float
    line: str


@dataclass(frozen=True)
class Claimed:
    """A node told other nodes, or a client, what it has. `name` is set if the cells are those of one counter."""

    time: float
    line: str
    what: str
    digest: Digest
    deltas: tuple[Delta, ...] = ()
    name: str = ""
    detached: tuple[Delta, ...] | None = None  # what a checkpoint keeps detached
    floor: int = 0  # up to which time it says that it takes no ids any more
    next_batch: int = 0  # the first batch that a checkpoint need not have


@dataclass(frozen=True)
class Waited:
    """A node told a client how many other members have these versions on their disks."""

    time: float
    line: str
    versions: Digest
    holders: int


Content = tuple[tuple[bytes, int, tuple[str, ...]], ...]
"""The content of a push: incarnations, their versions, and counters."""
Keyed = tuple[Mapping[str, keyed.Entry], object]
Entry = Stored | Shown | Repaired | Forked | Forgot | Claimed | Waited


@dataclass(frozen=True)
class Final:
    """The state of a node at the end, and the state that a replay of its log makes."""

    host: str
    cells: dict[str, dict[bytes, int]]
    digest: Digest
    membership: Membership
    identity: Identity
    replayed_cells: dict[str, dict[bytes, int]]
    replayed_digest: Digest
    replayed_membership: Membership
    replayed_identity: Identity
    damage: str = ""  # why no start can replay its log
    line: str = ""
    detached: tuple[Delta, ...] = ()  # its detached deltas
    forks: Mapping[bytes, int] | None = None  # incarnations that it reported as forked, and from which version
    values: Mapping[str, int] = field(default_factory=dict)
    keyed: Keyed | None = None  # its entries by key, and its settlements
    replayed_keyed: Keyed | None = None
    live: int = 0  # how many ids are not settled


@dataclass
class History:
    """The history of a run."""

    members: frozenset[str] = frozenset()  # the addresses that are in every config
    limits: dict[str, int] = field(default_factory=dict)  # by address, how many counters clients may create
    most_lives: int = 0  # the limit of incarnations
    increments: list[Increment] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    glances: list[Glance] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    configured: dict[str, float] = field(default_factory=dict)  # by line, when a config was first in force
    finals: list[Final] = field(default_factory=list)
    doubled: set[bytes] = field(default_factory=set)  # incarnations that two processes ran under at once
    unlinked: list[str] = field(default_factory=list)  # links that did not come up in time, and when
    over: bool = False  # whether the run came to its end
    faults: Counter[str] = field(default_factory=Counter)
    config_agreed: bool = False  # whether all members agreed on a config before the next one was posted
    healed_after: float | None = None  # seconds from the end of all faults until all nodes agreed
    round_trip: float = 0.0  # seconds that a message and its answer travel, on average
    healing: bool = False  # whether all faults have ended
    pushed: defaultdict[tuple[str, str], set[Content]] = field(default_factory=lambda: defaultdict(set))
    """By sender and receiver, the contents of the pushes since then."""
    taken_over: list[str] = field(default_factory=list)  # members that follow a copy which got a config of its own
    lost_address: dict[str, float] = field(default_factory=dict)  # when a running node's address became another one's
    last_queries: list[Query] = field(default_factory=list)  # those that began after the nodes had agreed
    repaired: bool = False  # whether a directory was repaired, so that gaps may have to be closed
    claim_pause: float = 0.0  # seconds in which a node that others know more of may not begin another incarnation yet
    window: float = 0.0  # seconds after its time in which an id is taken; 0 if there are no ids
    clocks: defaultdict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """By machine: since when its clock is how many seconds beyond the time of the run."""
    most_ids: int = 1000  # the limit of ids that are not settled
    let_off: tuple[dict[str, int], dict[str, int]] | None = None  # of which units not all is promised, once it is known
    held_back: str | None = None  # why ids were not settled in time, after the end of all faults
    relayed: bool = False  # whether something could only come by a relay, or when it was offered again

    def clock(self, host: str, time: float) -> float:
        """What the clock of a machine showed at a time of the run, in seconds since 1970."""
        return time + next(ahead for since, ahead in reversed(self.clocks[host]) if since <= time)

    def begun(self) -> set[bytes]:
        """All incarnations that were begun, and stored on any disk."""
        stored = [entry for entry in self.journal if isinstance(entry, Stored)]
        begun = {delta.incarnation for entry in stored for delta in entry.deltas}
        return begun | {entry.identity.incarnation for entry in stored if entry.identity is not None}

    @property
    def too_many_lives(self) -> bool:
        """Whether more incarnations were counted under than a node takes. Nothing is promised of those beyond.

        Nodes that did not know of each other's incarnations have begun them. It takes hundreds of starts in such a time
        to pass the limit that nodes really have.
        """
        counted = {delta.incarnation for entry in self.journal if isinstance(entry, Stored) for delta in entry.deltas}
        return len(counted) >= self.most_lives  # a node keeps one place for its own
