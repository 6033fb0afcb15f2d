"""The commands about transactions: MULTI, EXEC, DISCARD, WATCH and UNWATCH; see also `transaction.py`."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from gcount.errors import Refusal
from gcount.redis import resp
from gcount.redis.command import Command
from gcount.redis.context import Call
from gcount.redis.resp import CommandError
from gcount.redis.transaction import Transaction, aborted
from gcount.redis.turn import Reply, error_text, refusal_text

_UNGUARDED: Final = (
    "WATCH is not possible: gcount does not know whether a counter has changed, and an increment needs no such check"
)


def _multi(call: Call) -> bytes:
    client = call.client
    if client.transaction is not None:
        client.transaction.fail()
        raise CommandError("ERR MULTI calls can not be nested")
    client.transaction = Transaction(call.turn.version)
    if client.unguarded:
        client.transaction.fail(f"of: {_UNGUARDED}")
    return resp.OK


def _exec(call: Call) -> Reply:
    transaction = call.client.transaction
    if transaction is None:
        raise CommandError("ERR EXEC without MULTI")
    call.client.end_transaction()
    if transaction.failed:
        raise CommandError(f"EXECABORT Transaction discarded because {transaction.failed}")
    try:
        replies = transaction.execute()
    except (CommandError, Refusal) as error:
        raise CommandError(aborted(error_text(error))) from None
    return call.turn.together(transaction.items, partial(_render, replies), _refused)


def _render(replies: Sequence[Reply], values: Sequence[int]) -> bytes:
    return resp.array(
        reply if isinstance(reply, bytes) else reply.render(values[reply.first : reply.first + reply.values])
        for reply in replies
    )


def _refused(refusal: Refusal) -> str:
    """The error of an EXEC of which one increment was refused, so that none was taken."""
    return aborted(refusal_text(refusal))


def _discard(call: Call) -> bytes:
    if call.client.transaction is None:
        raise CommandError("ERR DISCARD without MULTI")
    call.client.end_transaction()
    return resp.OK


def _watch(call: Call) -> bytes:
    """Refuse to watch.

    The next transaction is then refused too. Clients send WATCH and the transaction in one piece, and must not have the
    transaction executed without the guard.
    """
    if call.client.transaction is not None:
        call.client.transaction.fail()
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    call.client.unguarded = True
    raise CommandError(f"ERR {_UNGUARDED}")


def _unwatch(call: Call) -> bytes:
    call.client.unguarded = False
    return resp.OK


TRANSACTIONS: Final = [
    Command("MULTI", 1, run=_multi, queued=False),
    Command("EXEC", 1, run=_exec, waits=True, queued=False, flags=()),
    Command("DISCARD", 1, run=_discard, queued=False),
    Command("WATCH", -2, run=_watch, queued=False, keys=(1, -1)),
    Command("UNWATCH", 1, run=_unwatch),
]
