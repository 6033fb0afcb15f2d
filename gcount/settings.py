"""The settings of a node: from flags, else from the environment, else the defaults."""

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
DEFAULT_DATA_ROOT = "data"  # bin/gcount-node sets GCOUNT_DATA_ROOT to the one in the project's folder
DEFAULT_TIMEOUT = 5
DEFAULT_MAX_COUNTERS = 10_000_000
DEFAULT_MAX_CONNECTIONS = 10_000
DEFAULT_RETRY_WINDOW = 3600
DEFAULT_MAX_IDS = 1_000_000

MAX_PORT = 65_535
MAX_CONNECTIONS = 1_000_000
MAX_NUMBER = 2**63 - 1
MAX_RETRY_WINDOW = 366 * 24 * 3600  # seconds
MAX_CLUSTER_BYTES = 255
MAX_HOST_NAME = 253

# The flags and the variables of one setting: its name, then its former name.
FAST_PATH = "--fast-path --fast-lane", "GCOUNT_FAST_PATH GCOUNT_FAST_LANE"

Choice = TypeVar("Choice", bound=str)


class UsageError(Exception):
    """A flag or an environment value can't be used. The text is one line that says what is allowed."""


@dataclass(frozen=True)
class Settings:
    """One node's settings, checked.

    Attributes:
        node_id: The node's number, 1 or greater. It is only a label: the identity of a node does not depend on it.
        host: Address or name to listen on; an IPv6 address has no brackets here.
        port: Port to listen on; 0 lets the system choose.
        data_dir: Absolute path of the data directory.
        timeout: Seconds that a request which depends on peers may take.
        cluster: Name of the cluster. Nodes of different names do not link to each other.
        max_counters: With this many counters, clients can create no more. Counters of members are always taken.
        log_format: Format of the log lines.
        max_connections: The most connections at a time.
        fast_path: Whether plain requests are answered without the application server.
        retry_window: Seconds after its time in which an id of an increment is taken.
        max_ids: With this many ids that are not settled, clients can bring no more. Ids of members are always taken.
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
    retry_window: float = DEFAULT_RETRY_WINDOW
    max_ids: int = DEFAULT_MAX_IDS

    @property
    def listen(self) -> str:
        """HOST:PORT, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        argv: the arguments after the program's name.
        environ: the environment.

    Raises:
        UsageError: a flag or value is wrong.
        DiskFailed: the data directory is relative to a working directory that was deleted.
        SystemExit: with code 0, after --help or --version has been printed.
    """
    try:
        given = _command().make_context(PROGRAM, list(argv)).params
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.ClickException as error:
        raise UsageError(_one_line(error.format_message())) from None

    def pick(flags: str, variables: str, default: str) -> tuple[str, str]:
        """A setting's text, and the name of its flag or variable for error messages.

        Of several names the first is the present one. The others are former names, which still work.
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
        retry_window=_whole(*pick("", "GCOUNT_RETRY_WINDOW", str(DEFAULT_RETRY_WINDOW)), 1, MAX_RETRY_WINDOW),
        max_ids=_whole(*pick("", "GCOUNT_MAX_IDS", str(DEFAULT_MAX_IDS)), 1, MAX_NUMBER),
    )


def _command() -> click.Command:
    """The command line. All values are texts here, so that flags and variables are checked by the same rules."""

    def option(flag: str, metavar: str, words: str) -> click.Option:
        return click.Option([flag], metavar=metavar, help=words)

    return click.Command(
        PROGRAM,
        help="Start a node of a gcount cluster. ID is the node's number: 1 or greater, default 1.",
        epilog=_epilog(),
        params=[
            click.Argument(["node_id"], metavar="[ID]", required=False, default="1"),
            option(
                "--listen",
                "HOST:PORT",
                f"Address to listen on. Host [::] means all addresses, port 0 any free port.  [{DEFAULT_LISTEN}]",
            ),
            option("--data-dir", "DIR", "Data directory.  [data/ID]"),
            option("--cluster", "NAME", "Name of the cluster. Nodes of different names do not connect.  [empty]"),
            option("--max-counters", "NUMBER", f"The most counters that clients can create.  [{DEFAULT_MAX_COUNTERS}]"),
            option("--max-connections", "NUMBER", f"The most open connections.  [{DEFAULT_MAX_CONNECTIONS}]"),
            option("--log-format", "text|json", "Format of the log lines.  [text]"),
            option("--fast-path", "on|off", "Whether to answer plain requests without the application server.  [on]"),
            option("--fast-lane", "on|off", "Former name of --fast-path."),
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


def _epilog() -> str:
    """What --help says after the flags."""
    return "\n".join(
        [
            "\b",  # click's mark for a paragraph that keeps its lines
            "Environment (an empty value counts as unset, and flags take precedence):",
            f"  GCOUNT_LISTEN           as --listen, default {DEFAULT_LISTEN}",
            "  GCOUNT_DATA_DIR         as --data-dir, default data/ID: in the project's folder with",
            "                          bin/gcount-node, else in the working directory",
            "  GCOUNT_CLUSTER          as --cluster, default empty",
            f"  GCOUNT_MAX_COUNTERS     as --max-counters, default {DEFAULT_MAX_COUNTERS}",
            f"  GCOUNT_MAX_CONNECTIONS  as --max-connections, default {DEFAULT_MAX_CONNECTIONS}",
            "  GCOUNT_LOG_FORMAT       as --log-format, default text",
            "  GCOUNT_FAST_PATH        as --fast-path, default on; GCOUNT_FAST_LANE is its former name",
            "  GCOUNT_RETRY_WINDOW     whole seconds, 1 or more, for which an increment with an id can be sent",
            f"                          again, default {DEFAULT_RETRY_WINDOW}; the same at all nodes, or ids may",
            "                          count twice (docs/operations/install.md says how to change it)",
            "  GCOUNT_MAX_IDS          the most ids of that time that clients can bring to this node,",
            f"                          default {DEFAULT_MAX_IDS}",
            "  CHALLENGE_TIMEOUT       whole seconds, 1 or more, that a request which depends on peers",
            f"                          may take, default {DEFAULT_TIMEOUT}",
            "  GCOUNT_PYTHON           the Python with which bin/gcount-node makes its environment",
            "  GCOUNT_VENV             the folder of that environment, default .venv in the project's",
            "                          folder",
            "",
            "\b",
            "Signals:",
            "  SIGTERM, SIGINT, SIGQUIT   stop the node: it exits with code 0 within 3 s, and loses",
            "                             nothing that was acknowledged",
            "  SIGHUP, SIGUSR1, SIGUSR2   are ignored, with a line in the log",
        ]
    )


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"gcount {VERSION}")
        context.exit()


def _whole(name: str, text: str, low: int, high: int) -> int:
    """Read a whole number in ASCII digits. int() alone would take "+1", "1_000" and digits of other scripts."""
    if re.fullmatch(r"[0-9]{1,20}", text) is None or not low <= int(text) <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, got {_shown(text)}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    """Read a whole number above 0. There is no upper limit: with more than 308 digits it becomes infinity."""
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
    # A printable text has no control characters, and none of the surrogates that replace bytes which are not UTF-8.
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
    """The value as a message shows it: on one line, printable, and at most 40 characters of it."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")
