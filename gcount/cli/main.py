"""`bin/gcount`: checks and repairs a data directory without starting a node on it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_bytes

import click

from gcount.core.limits import ID_BYTES
from gcount.errors import Busy, DiskFailed, Fatal, Unreadable
from gcount.storage.disk import RealDirectory, RealDisk
from gcount.storage.inspect.contents import Contents
from gcount.storage.inspect.corruption import Corruption
from gcount.storage.inspect.repair import repair, require_repairable
from gcount.storage.inspect.survey import holds_log, survey
from gcount.storage.locking import unused
from gcount.version import VERSION

PROGRAM = "gcount"
WHOLE, DAMAGED, UNUSABLE = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name.

    Returns:
        The exit code. 0: the directory is whole, perhaps after a repair. 1: it is damaged, or can't be repaired now. 2:
        bad usage, or no data directory.
    """
    try:
        code: int = _command().main(list(argv), prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return _say(" ".join(error.format_message().split()).rstrip("."), UNUSABLE)
    except (Busy, Unreadable) as error:
        return _say(str(error), UNUSABLE)
    except Fatal as error:
        return _say(str(error), DAMAGED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}", UNUSABLE)
    return code


def run() -> int:
    """Entry point of the `gcount` script of an installed package.

    Returns:
        The exit code.
    """
    return main(sys.argv[1:])


def _say(line: str, code: int) -> int:
    print(f"{PROGRAM}: error: {line}", file=sys.stderr)
    return code


def _command() -> click.Group:
    def command(name: str, words: str, does: object, *more: click.Parameter) -> click.Command:
        folder = click.Argument(["directory"], metavar="DIR", type=click.Path(path_type=Path))
        return click.Command(name, help=words, callback=does, params=[folder, *more])  # type: ignore[arg-type]

    write = click.Option(["--write"], is_flag=True, help="Write the changes. Without this flag, only report them.")
    group = click.Group(
        PROGRAM,
        no_args_is_help=False,
        help="Check and repair the data directory of a gcount node. Exit codes: 0 whole, 1 damaged, 2 bad usage.",
        commands=[
            command("verify", "Check a data directory. A node may be running in it. Nothing is changed.", _verify),
            command(
                "repair",
                "Repair a damaged data directory. All batches that can still be read are kept.",
                _repair,
                write,
            ),
        ],
    )
    return click.version_option(VERSION, message="%(prog)s %(version)s")(group)


def _verify(directory: Path) -> int:
    found = _look(directory)
    print(f"{directory}: {'damaged' if found.corruptions else 'whole'}")
    _print_contents(found)
    if found.torn is not None:
        print(f"  torn tail     {_place(found.torn)}: an unfinished or interrupted write; this is no damage")
    _print_flaws(found)
    if found.corruptions:
        print(f"to see what can be kept: bin/gcount repair {shlex.quote(str(directory))}")
    return DAMAGED if found.corruptions else WHOLE


def _repair(directory: Path, write: bool) -> int:
    _require_log(directory)
    if not write:
        with unused(directory):
            found = _look(directory)
            return _print_plan(directory, found) if found.corruptions else _nothing_to_do(directory)
    disk = RealDisk(directory)
    try:
        found = survey(disk)
        if not found.corruptions:
            return _nothing_to_do(directory)
        moved = _carry_out(disk, found)
        after = survey(disk)
    finally:
        disk.close()
    if after.corruptions:
        raise DiskFailed(f"the repaired directory is damaged again: {_place(after.corruptions[0])}. Check the disk")
    print(f"{directory}: repaired; the node goes on {'as before' if found.lossless else 'under a new incarnation'}")
    print(f"  kept {_batches(found.whole)}, lost {found.lost}")
    for name in moved:
        print(f"  the damaged file is now {disk.describe(name)}; delete it when all is well")
    _print_contents(after)
    if not found.lossless:
        _print_next(after)
    return WHOLE


def _carry_out(disk: RealDisk, found: Contents) -> list[str]:
    try:
        return repair(disk, found, lambda: token_bytes(ID_BYTES))
    except OSError as error:
        raise DiskFailed(
            f"the disk failed: {error.strerror or error}. No node can start here yet; run the repair again"
        ) from error


def _print_plan(directory: Path, found: Contents) -> int:
    print(f"{directory}: damaged; nothing was changed")
    _print_flaws(found)
    require_repairable(found)
    print(f"a repair keeps {_batches(found.whole)} and loses {found.lost}; the damaged files stay, under other names")
    _print_contents(found)
    if not found.lossless:
        _print_next(found)
    print(f"to do it: bin/gcount repair --write {shlex.quote(str(directory))}")
    return DAMAGED


def _nothing_to_do(directory: Path) -> int:
    print(f"{directory}: whole, nothing to repair")
    return WHOLE


def _look(directory: Path) -> Contents:
    _require_log(directory)
    return survey(RealDirectory(directory))


def _require_log(directory: Path) -> None:
    if not directory.is_dir():
        raise click.UsageError(f"{directory} is not a directory")
    if not holds_log(RealDirectory(directory)):
        raise click.UsageError(f"{directory} is not a data directory: it holds no segment of a log, and no checkpoint")


def _print_contents(found: Contents) -> None:
    print(f"  segments      {len(found.segments)}")
    print(f"  batches       {found.whole}")
    print(f"  counters      {found.counters}")
    if found.ids:
        print(f"  ids           {found.ids}")
    print(f"  incarnations  {found.incarnations}")
    print(f"  bytes         {found.size}")
    if found.checkpoint is not None:
        print(f"  checkpoint    {found.checkpoint.source}, {found.checkpoint.size} bytes")
    if found.replica.detached:
        print(f"  detached      increments of {_counters(len(found.replica.detached.names()))}, behind a gap")


def _print_flaws(found: Contents) -> None:
    needless = [each.corruption for each in found.needless]
    for corruption in found.corruptions:
        if corruption in needless:
            lost = "nothing is lost: other files still have all that this checkpoint covers"
        elif found.checkpoint is not None and corruption is found.checkpoint.corruption:
            lost = "a repair keeps what can still be read of it"
        else:
            lost = f"{_batches(corruption.lost)} lost"
        print(f"  damage: {_place(corruption)}; {lost}")


def _print_next(found: Contents) -> None:
    print("  the members give back the lost increments that they have; until then values may be lower than before")
    if found.replica.detached:
        print("  detached increments count when the members fill the gap, or when all are there and none can fill it")
    if not found.replica.membership.actors:
        print("  no config is left: if this node had peers and they do not reach it, post the config again;")
        print("  if it has no peers, post a config with its own address: detached increments count only then")


def _batches(count: int) -> str:
    return f"{count} batch{'' if count == 1 else 'es'}"


def _counters(count: int) -> str:
    return f"{count} counter{'' if count == 1 else 's'}"


def _place(corruption: Corruption) -> str:
    return f"{corruption.file} at offset {corruption.offset}: {corruption.reason}"


if __name__ == "__main__":
    sys.exit(run())
