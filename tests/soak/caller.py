"""One client of one node: it increments and reads, and all that it does is in the history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from tests.harness.client import NoAnswer, NotSent, Response
from tests.soak.history import Ids, Increment, Look, Outcome, Query
from tests.soak.machine import Machine

AGAIN = 0.02  # seconds between two checks of a condition
GIVE_UP = 10.0  # seconds that a client waits for an answer


class Caller:
    """One client's connection to one node. Its operations are in the history, also if they are cancelled."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._client = machine.node.client()
        self._start_of_node = machine.node.starts

    async def _request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        if self._start_of_node != self.machine.node.starts:  # the connection was to a process that has ended
            self._client.drop()
            self._start_of_node = self.machine.node.starts
        return await self._client.request(method, target, body, headers=headers, timeout=GIVE_UP)

    def close(self) -> None:
        self._client.drop()

    async def increment(self, name: str, amount: int, id_: str) -> Increment:
        """Send an increment with an id once."""
        machine, start = self.machine, self.machine.clock()
        fate = _Fate()
        try:
            headers = {"Idempotency-Key": id_}
            fate.read(await self._request("POST", f"/counter/{name}", b"%d" % amount, headers))
        except (NotSent, NoAnswer) as error:
            fate.lost(error)
        finally:
            end = machine.clock()
            record = Increment(machine.number, name, amount, start, end, *fate.known, id=id_, replayed=fate.replayed)
            machine.history.add(record)
        return record

    async def ids(self, *, last: bool = False) -> Ids | None:
        """Ask once what the node says of ids; None if it was not answered. `last`: no other question follows."""
        try:
            answer = await self._request("GET", "/status")
        except (NotSent, NoAnswer):
            return None
        if answer.status != 200:
            return None
        told = answer.json()["ids"]
        found = Ids(self.machine.number, self.machine.clock(), told["live"], told["floor"], last)
        self.machine.history.add(found)
        return found

    async def settled(self) -> None:
        """Ask what the node says of ids until it has no live one."""
        while True:
            found = await self.ids()
            if found is not None and not found.live:
                return
            await trio.sleep(0.5)

    async def consistent(self, name: str, timeout: float | None = None) -> Query:
        """Read consistently once; `timeout` is in seconds, by default the node's."""
        machine, start = self.machine, self.machine.clock()
        query = "" if timeout is None else f"?timeout={timeout}"
        fate = _Fate()
        try:
            fate.read(await self._request("GET", f"/counter/{name}/consistent_value{query}"))
        except (NotSent, NoAnswer) as error:
            fate.lost(error)
        finally:
            record = Query(machine.number, name, start, machine.clock(), *fate.known)
            machine.history.add(record)
        return record

    async def value(self, name: str) -> int | None:
        """Read /value once; None if it was not answered."""
        machine, start = self.machine, self.machine.clock()
        try:
            answer = await self._request("GET", f"/counter/{name}/value")
        except (NotSent, NoAnswer):
            return None
        if answer.status != 200:
            return None
        machine.history.add(Look(machine.number, name, start, machine.clock(), answer.number()))
        return answer.number()

    async def exact(self, name: str) -> int:
        """Read consistently until there is an answer."""
        while True:
            query = await self.consistent(name)
            if query.outcome == "ok":
                return query.value
            await trio.sleep(AGAIN)

    async def equal(self, name: str, value: int) -> int:
        """Read /value until it is `value`; returns it."""
        while True:
            if await self.value(name) == value:
                return value
            await trio.sleep(AGAIN)


@dataclass
class _Fate:
    outcome: Outcome = "unknown"
    status: int = 0
    value: int = 0
    reason: str = ""
    replayed: bool = False

    @property
    def known(self) -> tuple[Outcome, int, int, str]:
        return self.outcome, self.status, self.value, self.reason

    def read(self, answer: Response) -> None:
        self.status = answer.status
        if answer.status == 200:
            self.outcome, self.value = "ok", answer.number()
            self.replayed = answer.headers.get("idempotent-replayed") == "true"
            return
        promised = answer.status == 503 or 400 <= answer.status < 500  # that nothing was changed
        self.outcome = "refused" if promised else "unknown"
        try:
            self.reason = str(json.loads(answer.body)["detail"])
        except (ValueError, KeyError, TypeError):
            self.reason = f"not a problem document: {answer.body[:200]!r}"

    def lost(self, error: NotSent | NoAnswer) -> None:
        self.outcome = "unsent" if isinstance(error, NotSent) else "unknown"
        self.reason = str(error)
