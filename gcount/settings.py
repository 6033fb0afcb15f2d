"""What an operator can set: flags first, then the environment, then the defaults."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import click

from gcount.errors import DiskFailed
from gcount.version import VERSION

PROGRAM = "gcount-node"

DEFAULT_LISTEN = "0.0.0.0:7777"
DEFAULT_DATA_ROOT = "data"  # bin/gcount-node names the project's own, in GCOUNT_DATA_ROOT
DEFAULT_TIMEOUT = 5
DEFAULT_MAX_COUNTERS = 10_000_000
DEFAULT_MAX_CONNECTIONS = 10_000

MAX_PORT = 65_535
MAX_CONNECTIONS = 1_000_000
MAX_NUMBER = 2**63 - 1
MAX_CLUSTER_BYTES = 255
MAX_HOST_NAME = 253

FAST_PATH = "--fast-path --fast-lane", "GCOUNT_FAST_PATH GCOUNT_FAST_LANE"  # its flags, its variables

Choice = TypeVar("Choice", bound=str)


class UsageError(Exception):
    """A flag or an environment value that cannot be used; the text is one line that says what is allowed."""


@dataclass(frozen=True)
class Settings:
    """One node's settings, checked.

    Attributes:
        node_id: A label, from 1; identity never rests on it.
        host: Address or name to listen on; an IPv6 address is without its brackets.
        port: Port to listen on; 0 lets the system choose.
        data_dir: Absolute path of the folder that holds everything durable.
        timeout: Seconds that a request which depends on peers may take.
        cluster: Only nodes of one cluster name talk to each other.
        max_counters: With how many counter names clients can make no further ones; what members tell is always taken.
        log_format: How log lines are written.
        max_connections: Most connections held open at a time.
        fast_path: Whether plain requests are answered without the application server.
    """

    node_id: int
    host: str
    port: int
    data_dir: Path
    timeout: float
    cluster: str
    max_counters: int
    log_format: Literal["text", "json"]
    max_connections: int = DEFAULT_MAX_CONNECTIONS
    fast_path: bool = True

    @property
    def listen(self) -> str:
        """HOST:PORT, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the arguments (without the program's name) and the environment.

    Raises:
        UsageError: a flag or value is wrong.
        DiskFailed: the data directory is relative to a working directory that is gone.
        SystemExit: with code 0, after --help or --version has been printed.
    """
    try:
        given = _command().make_context(PROGRAM, list(argv)).params
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.ClickException as error:
        raise UsageError(_one_line(error.format_message())) from None

    def pick(flags: str, variables: str, default: str) -> tuple[str, str]:
        """The setting's text, and the name under which it was given, for the error message.

        Of several names the first is today's; the others are former ones, which go on working.
        """
        for flag in flags.split():
            text: str | None = given[flag.removeprefix("--").replace("-", "_")]
            if text is not None:
                return flag, text
        for variable in variables.split():
            if environ.get(variable):
                return variable, environ[variable]
        return variables.split()[0], default

    node_id = _whole("ID", given["node_id"], 1, MAX_NUMBER)
    host, port = _listen(*pick("--listen", "GCOUNT_LISTEN", DEFAULT_LISTEN))
    timeout = environ.get("CHALLENGE_TIMEOUT") or str(DEFAULT_TIMEOUT)
    default_data = Path(environ.get("GCOUNT_DATA_ROOT") or DEFAULT_DATA_ROOT, str(node_id))
    max_counters = pick("--max-counters", "GCOUNT_MAX_COUNTERS", str(DEFAULT_MAX_COUNTERS))
    max_connections = pick("--max-connections", "GCOUNT_MAX_CONNECTIONS", str(DEFAULT_MAX_CONNECTIONS))
    return Settings(
        node_id=node_id,
        host=host,
        port=port,
        data_dir=_folder(*pick("--data-dir", "GCOUNT_DATA_DIR", str(default_data))),
        timeout=_seconds("CHALLENGE_TIMEOUT", timeout),
        cluster=_cluster(*pick("--cluster", "GCOUNT_CLUSTER", "")),
        max_counters=_whole(*max_counters, 1, MAX_NUMBER),
        log_format=_choice(*pick("--log-format", "GCOUNT_LOG_FORMAT", "text"), "text", "json"),
        max_connections=_whole(*max_connections, 1, MAX_CONNECTIONS),
        fast_path=_choice(*pick(*FAST_PATH, "on"), "on", "off") == "on",
    )


def _command() -> click.Command:
    """The command line. Values arrive as text, so that flags and variables are checked by the same rules."""

    def option(flag: str, metavar: str, words: str) -> click.Option:
        return click.Option([flag], metavar=metavar, help=words)

    environment = "\n".join(
        [
            "\b",  # click's mark for a paragraph that keeps its lines
            "Environment (an empty value counts as unset, a flag wins over it):",
            f"  GCOUNT_LISTEN           as --listen, default {DEFAULT_LISTEN}",
            "  GCOUNT_DATA_DIR         as --data-dir, default data/ID: of the project's folder with",
            "                          bin/gcount-node, else of the working directory",
            "  GCOUNT_CLUSTER          as --cluster, default empty",
            f"  GCOUNT_MAX_COUNTERS     as --max-counters, default {DEFAULT_MAX_COUNTERS}",
            f"  GCOUNT_MAX_CONNECTIONS  as --max-connections, default {DEFAULT_MAX_CONNECTIONS}",
            "  GCOUNT_LOG_FORMAT       as --log-format, default text",
            "  GCOUNT_FAST_PATH        as --fast-path, default on; GCOUNT_FAST_LANE is its former name",
            "  CHALLENGE_TIMEOUT       whole seconds, 1 or more, that a request which depends on peers",
            f"                          may take, default {DEFAULT_TIMEOUT}",
            "  GCOUNT_PYTHON           the Python that bin/gcount-node makes its environment of",
            "  GCOUNT_VENV             where it makes it, default .venv in the project's folder",
            "",
            "\b",
            "Signals:",
            "  SIGTERM, SIGINT, SIGQUIT   the node ends with 0, within 3 s; nothing acknowledged is lost",
            "  SIGHUP, SIGUSR1, SIGUSR2   a line in the log, nothing else: there is nothing to read anew",
        ]
    )
    return click.Command(
        PROGRAM,
        help="Start the node ID (a whole number from 1, default 1) of a gcount cluster.",
        epilog=environment,
        params=[
            click.Argument(["node_id"], metavar="[ID]", required=False, default="1"),
            option("--listen", "HOST:PORT", f"Where to listen; [::]: everywhere; port 0: any.  [{DEFAULT_LISTEN}]"),
            option("--data-dir", "DIR", "Folder of all durable data.  [data/ID]"),
            option("--cluster", "NAME", "Only nodes of one name talk to each other.  [empty]"),
            option("--max-counters", "NUMBER", f"Most counters that clients can make.  [{DEFAULT_MAX_COUNTERS}]"),
            option("--max-connections", "NUMBER", f"Most open connections.  [{DEFAULT_MAX_CONNECTIONS}]"),
            option("--log-format", "text|json", "How log lines are written.  [text]"),
            option("--fast-path", "on|off", "Answer plain requests without the application server.  [on]"),
            option("--fast-lane", "on|off", "The former name of --fast-path."),
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            ),
        ],
    )


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"gcount {VERSION}")
        context.exit()


def _whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number in plain digits: int() alone would take "+1", "1_000" and digits of other scripts."""
    if re.fullmatch(r"[0-9]{1,20}", text) is None or not low <= int(text) <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, got {_shown(text)}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    """Any whole number above 0: waits have no upper limit, and of more than 308 digits a float makes infinity."""
    if re.fullmatch(r"[0-9]+", text) is None or float(text) == 0:
        raise UsageError(f"{name} must be a whole number of seconds, 1 or more, got {_shown(text)}")
    return float(text)


def _listen(name: str, text: str) -> tuple[str, int]:
    wrong = UsageError(
        f"{name} must be HOST:PORT with an IPv4 address, a host name or an [IPv6] address "
        f"and a port from 0 to {MAX_PORT}, got {_shown(text)}"
    )
    host, colon, digits = text.rpartition(":")
    if not colon or re.fullmatch(r"[0-9]{1,5}", digits) is None or int(digits) > MAX_PORT:
        raise wrong
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        valid = _is_address(ipaddress.IPv6Address, host)
    elif re.fullmatch(r"[0-9.]+", host):
        valid = _is_address(ipaddress.IPv4Address, host)
    else:
        label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
        valid = len(host) <= MAX_HOST_NAME and re.fullmatch(rf"{label}(\.{label})*\.?", host) is not None
    if not valid:
        raise wrong
    return host, int(digits)


def _is_address(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _folder(name: str, text: str) -> Path:
    if not text or "\0" in text:
        raise UsageError(f"{name} must be the path of a folder, got {_shown(text)}")
    try:
        return Path(text).absolute()
    except OSError as error:
        raise DiskFailed(
            f"the data directory {_shown(text)} can't be used: the working directory, which it is relative to, "
            f"is gone; start in another one, or give an absolute path"
        ) from error


def _cluster(name: str, text: str) -> str:
    # Printable: no control characters, and none of the stand-ins for bytes that are not UTF-8.
    if not text.isprintable() or len(text.encode()) > MAX_CLUSTER_BYTES:
        raise UsageError(
            f"{name} must be at most {MAX_CLUSTER_BYTES} bytes of UTF-8 without control characters, got {_shown(text)}"
        )
    return text


def _choice(name: str, text: str, *allowed: Choice) -> Choice:
    for choice in allowed:
        if text == choice:
            return choice
    raise UsageError(f"{name} must be {' or '.join(allowed)}, got {_shown(text)}")


def _shown(text: str) -> str:
    """The value for a message: on one line, printable, not endless."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")
