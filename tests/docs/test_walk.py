"""A walk through a page finds its mistakes: each planted mistake is caught, and a right page passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import UnmarkedBlock, matches
from tests.docs.walk import WrongPage, walk

START = """
```console
$ bin/gcount-node &
...
... ready on http://0.0.0.0:7777 ...
```
"""


def console(*lines: str) -> str:
    return "\n```console\n" + "".join(f"{line}\n" for line in lines) + "```\n"


COUNT = START + console("$ curl -d 5 localhost:7777/counter/views", "5")


async def test_a_right_page_passes(tmp_path: Path) -> None:
    saved = "\n<!-- file: sub/count.py -->\n```python\nprint('localhost:7777', 6 * 7)\n```\n"
    page = COUNT + saved + console("$ python3 sub/count.py", "localhost:7777 42", "$ ls data", "1")
    page += "\n<!-- not run: a picture -->\n```text\n+--+\n```\n"
    page += console("$ false", "$ echo $?", "1", "$ for word in a \\", "> b; do echo $word; done", "a", "b")
    page += console("$ kill %1; wait", "$ curl localhost:7777/ping", "curl: (7) ...", "$ echo $?", "7")
    result = await walk(page, "page", tmp_path)
    assert (result.done, result.left_out) == (6, [])


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        pytest.param(console("$ curl -d 5 localhost:7777/counter/views", "11"), "it prints:\n10", id="a wrong value"),
        pytest.param(console("$ curl localhost:7777/ping", "pong", "pong"), "it prints:\npong", id="too many lines"),
        pytest.param(console("$ curl localhost:7777/ping"), "it prints:\npong", id="output that is not shown"),
        pytest.param("\n```sh\nfalse\n```\n", "ended with 1", id="a command that fails"),
        pytest.param("\n```sh\nno-such-program\n```\n", "ended with 127", id="a program that is not there"),
        pytest.param(console("$ bin/gcount-node 2 --listen nonsense &"), "no node is ready", id="a wrong flag"),
    ],
)
async def test_a_mistake_is_caught(tmp_path: Path, mistake: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.walk.PATIENCE", 2.0 if "nonsense" in mistake else 60.0)
    with pytest.raises(WrongPage, match=message):
        await walk(COUNT + mistake, "page", tmp_path)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param("\n```text\nbin/gcount-node\n```\n", id="another language"),
        pytest.param("\n```\nbin/gcount-node\n```\n", id="no language"),
        pytest.param("\n<!-- not run: -->\n```text\nbin/gcount-node\n```\n", id="no reason"),
        pytest.param("\n    bin/gcount-node\n", id="indented"),
        pytest.param("\n- first:\n  ```sh\n  bin/gcount-node\n  ```\n", id="fence inside a list"),
        pytest.param("\n```console\nbin/gcount-node\n```\n", id="no prompt"),
    ],
)
async def test_a_block_that_is_neither_run_nor_marked_fails(tmp_path: Path, block: str) -> None:
    with pytest.raises(UnmarkedBlock):
        await walk(block, "page", tmp_path)


async def test_a_block_whose_program_is_missing_is_left_out_and_named(tmp_path: Path) -> None:
    page = "\n<!-- needs: no-such-program -->\n```console\n$ no-such-program\nit works\n```\n" + console(
        "$ echo a", "a"
    )
    result = await walk(page, "page", tmp_path)
    assert (result.done, result.left_out) == (1, ["page:3: no-such-program not installed"])


def test_only_times_and_versions_may_differ() -> None:
    assert matches("... ready on ... id=1\n", "2026-11-28T09:00:00.123Z info ready on http://a id=1\n")
    assert matches("a\n...\nd\n", "a\nb\nc\nd\n")
    assert matches('{"version": 1795404231040}\n', '{"version": 1895404231049}\n')
    assert not matches('{"version": 1795404231040}\n', '{"version": 7}\n')
    assert not matches("a.b\n", "acb\n")
    assert not matches("5\n", "15\n")
    assert not matches("", "a\n")
