"""The commands that Redis clients may use: the one table of all of them."""

from typing import Final

from gcount.redis.command import Command, Commands
from gcount.redis.commands.clients import CLIENT
from gcount.redis.commands.connection import CONNECTION
from gcount.redis.commands.counters import COUNTERS
from gcount.redis.commands.refused import REFUSED
from gcount.redis.commands.server import SERVER, describing
from gcount.redis.commands.transactions import TRANSACTIONS


def _table() -> Commands:
    known: dict[bytes, Command] = {}
    all_commands = (*COUNTERS, *TRANSACTIONS, describing(known), *SERVER, CLIENT, *CONNECTION)
    known.update({command.name.encode(): command for command in all_commands})
    return Commands(known, REFUSED)


COMMANDS: Final = _table()
