"""The settings that an operator may write, and the errors for everything else."""

from pathlib import Path

import pytest

from gcount.errors import DiskFailed
from gcount.settings import Settings, UsageError, parse
from gcount.version import VERSION


def test_defaults() -> None:
    assert parse([], {}) == Settings(
        node_id=1,
        host="0.0.0.0",
        port=7777,
        data_dir=Path.cwd() / "data" / "1",
        timeout=5.0,
        cluster="",
        max_counters=10_000_000,
        log_format="text",
        max_connections=10_000,
        fast_path=True,
        retry_window=3600,
        max_ids=1_000_000,
    )


def test_every_flag() -> None:
    argv = ["7", "--listen", "[::1]:0", "--data-dir", "/var/lib/g", "--cluster", "east"]
    argv += ["--max-counters", "10", "--max-connections", "20", "--log-format", "json", "--fast-path", "off"]
    assert parse(argv, {}) == Settings(7, "::1", 0, Path("/var/lib/g"), 5.0, "east", 10, "json", 20, False)


ENVIRONMENT = {
    "GCOUNT_LISTEN": "node-1.example:80",
    "GCOUNT_DATA_DIR": "/var/lib/g",
    "CHALLENGE_TIMEOUT": "3",
    "GCOUNT_CLUSTER": "west",
    "GCOUNT_MAX_COUNTERS": "11",
    "GCOUNT_MAX_CONNECTIONS": "21",
    "GCOUNT_LOG_FORMAT": "json",
    "GCOUNT_FAST_PATH": "off",
    "GCOUNT_RETRY_WINDOW": "31",
    "GCOUNT_MAX_IDS": "41",
}


def test_every_variable() -> None:
    expected = Settings(1, "node-1.example", 80, Path("/var/lib/g"), 3.0, "west", 11, "json", 21, False, 31, 41)
    assert parse([], ENVIRONMENT) == expected


def test_a_flag_beats_its_variable_even_a_wrong_one() -> None:
    assert parse(["--listen", "127.0.0.2:1"], ENVIRONMENT).host == "127.0.0.2"
    assert parse(["--cluster", ""], ENVIRONMENT).cluster == ""
    assert parse(["--max-counters", "5"], {"GCOUNT_MAX_COUNTERS": "many"}).max_counters == 5


def test_the_former_names_of_the_fast_path_go_on_working() -> None:
    assert not parse(["--fast-lane", "off"], {"GCOUNT_FAST_PATH": "on"}).fast_path
    assert not parse([], {"GCOUNT_FAST_LANE": "off", "GCOUNT_FAST_PATH": ""}).fast_path
    assert parse([], {"GCOUNT_FAST_LANE": "off", "GCOUNT_FAST_PATH": "on"}).fast_path
    assert parse(["--fast-lane", "off", "--fast-path", "on"], {}).fast_path


def test_an_empty_variable_counts_as_unset() -> None:
    assert parse([], dict.fromkeys(ENVIRONMENT, "")) == parse([], {})


def test_the_environment_of_the_process_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    assert parse([], {}).host == "0.0.0.0"


def test_the_data_directory_follows_the_id_and_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(["12"], {}).data_dir == tmp_path / "data" / "12"
    assert parse(["12"], {"GCOUNT_DATA_ROOT": "/of/the/project"}).data_dir == Path("/of/the/project/12")
    assert parse(["--data-dir", "here"], {}).data_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:65535", "localhost", 65535),
        ("a_b.example.:1", "a_b.example.", 1),
        ("[::]:7777", "::", 7777),
        ("[fe80::1%eth0]:7777", "fe80::1%eth0", 7777),
    ],
)
def test_listen_addresses(text: str, host: str, port: int) -> None:
    settings = parse(["--listen", text], {})
    assert (settings.host, settings.port) == (host, port)


BAD_NUMBERS = [
    "0",
    "-1",
    "+1",
    "1_0",
    "1.0",
    " 1",
    "1 ",
    "0x1",
    "x",
    "\u0661",
    "\u00b2",
    "9" * 20,
    "9" * 5000,
]
BAD_LISTEN = [
    "",
    "7777",
    ":7777",
    "host",
    "host:",
    "host:+1",
    "host:65536",
    "host:1_0",
    "host:\u0663",
    "a b:1",
]
BAD_LISTEN += [
    "1.2.3.256:1",
    "1.2.3:1",
    "::1:80",
    "[::1]",
    "[::g]:1",
    "[1.2.3.4]:1",
    "-a:1",
    "a..b:1",
    "http://a:1",
]
BAD_LISTEN += ["a" * 64 + ":1", "\udcff:1", "*:1"]


@pytest.mark.parametrize("text", ["", *BAD_NUMBERS])
def test_bad_numbers(text: str) -> None:
    for flag in ("--max-counters", "--max-connections"):
        assert_refused([f"{flag}={text}"], {}, flag, "whole number from 1 to")
    assert_refused(["--", text], {}, "ID", "whole number from 1 to")
    if text:
        for variable in ("GCOUNT_RETRY_WINDOW", "GCOUNT_MAX_IDS"):
            assert_refused([], {variable: text}, variable, "whole number from 1 to")


def test_the_retry_window_ends_at_a_year() -> None:
    year = 366 * 24 * 3600
    assert parse([], {"GCOUNT_RETRY_WINDOW": str(year)}).retry_window == year
    assert_refused([], {"GCOUNT_RETRY_WINDOW": str(year + 1)}, "GCOUNT_RETRY_WINDOW", str(year))


@pytest.mark.parametrize("text", [*(text for text in BAD_NUMBERS if text[0] != "9"), "2.5", "000", "inf", "1e3"])
def test_bad_timeouts(text: str) -> None:
    assert_refused([], {"CHALLENGE_TIMEOUT": text}, "CHALLENGE_TIMEOUT", "whole number of seconds, 1 or more")


@pytest.mark.parametrize("text", ["1", "01", "3601", "1" + "0" * 9, "1" + "0" * 30, "9" * 5000])
def test_any_whole_number_of_seconds_above_0_is_a_timeout(text: str) -> None:
    assert parse([], {"CHALLENGE_TIMEOUT": text}).timeout == float(text)


@pytest.mark.parametrize("text", BAD_LISTEN)
def test_bad_listen_addresses(text: str) -> None:
    assert_refused([f"--listen={text}"], {}, "--listen", "HOST:PORT")
    if text:
        assert_refused([], {"GCOUNT_LISTEN": text}, "GCOUNT_LISTEN", "HOST:PORT")


@pytest.mark.parametrize("text", ["a\nb", "a\0", "\udcff", "é" * 128])
def test_bad_cluster_names(text: str) -> None:
    assert_refused(["--cluster", text], {}, "--cluster", "255 bytes")


def test_other_mistakes() -> None:
    assert_refused(["--log-format", "xml"], {}, "--log-format", "text or json")
    assert_refused([], {"GCOUNT_LOG_FORMAT": "TEXT"}, "GCOUNT_LOG_FORMAT", "text or json")
    assert_refused(["--fast-path", "yes"], {}, "--fast-path", "on or off")
    assert_refused(["--fast-lane", "yes"], {}, "--fast-lane", "on or off")
    assert_refused([], {"GCOUNT_FAST_LANE": "yes"}, "GCOUNT_FAST_LANE", "on or off")
    assert_refused(["--data-dir", ""], {}, "--data-dir", "folder")
    assert_refused(["--wrong"], {}, "--wrong")
    assert_refused(["--listen"], {}, "--listen", "argument")
    assert_refused(["1", "2"], {}, "unexpected extra argument")
    assert_refused(["-1"], {}, "-1")


def assert_refused(argv: list[str], environ: dict[str, str], *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv, environ)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert message.isprintable()
    assert len(message) < 300


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        parse(["--version"], {})
    assert done.value.code == 0
    assert capsys.readouterr() == (f"gcount {VERSION}\n", "")


def test_help_lists_flags_variables_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        parse(["--help"], {"GCOUNT_LISTEN": "wrong"})
    assert done.value.code == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    flags = [
        "--listen",
        "--data-dir",
        "--cluster",
        "--max-counters",
        "--max-connections",
        "--log-format",
        "--fast-path",
        "--fast-lane",
        "GCOUNT_FAST_LANE",
    ]
    for word in [
        *flags,
        *ENVIRONMENT,
        "0.0.0.0:7777",
        "10000000",
        "default 5",
        "[ID]",
        "--version",
        "--help",
    ]:
        assert word in printed


def test_a_relative_directory_needs_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(DiskFailed, match=r"'here' can't be used: the working directory, .*, is gone") as said:
        parse([], {"GCOUNT_DATA_DIR": "here"})
    assert "\n" not in str(said.value)
    assert parse([], {"GCOUNT_DATA_DIR": str(tmp_path)}).data_dir == tmp_path
    with pytest.raises(DiskFailed, match="'data/1' can't be used: the working directory"):
        parse([], {})
    assert parse([], {"GCOUNT_DATA_ROOT": str(tmp_path)}).data_dir == tmp_path / "1"
