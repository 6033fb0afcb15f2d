"""The blocks of a page that a reader would type or save, and the marks that the page gives them.

A block is one of these. Anything else on a checked page is an `UnmarkedBlock`.

- `console`: commands behind `$ ` (continued behind `> `), each followed by what it prints.
- `sh`: commands whose output the page does not show.
- A block below `<!-- file: NAME -->`: the reader saves it.
- A block below `<!-- browser: URL -->`: the text that a browser shows at that address.
- A block below `<!-- not run: REASON -->`: the reason why no test runs it.

`<!-- needs: PROGRAM ... -->` above a `console` or `sh` block names programs without which it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_FENCE = re.compile(r"```(\w*)")
_MARK = re.compile(r"<!-- (file|browser|needs|not run): (\S.*) -->")
_INDENTED_FENCE = re.compile(r"\s+```")

# The parts of an output that differ in each run: times, versions of a config.
_VARIABLE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z|\b\d{13}\b")


class UnmarkedBlock(AssertionError):
    """No test runs a block, and the page does not say why."""


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        place: the page and the line, for messages.
        language: the word behind the opening fence.
        text: the content, with a newline at its end.
        mark: the kind of the comment above the block; empty without one.
        note: the text of that comment.
    """

    place: str
    language: str
    text: str
    mark: str = ""
    note: str = ""

    @property
    def action(self) -> Literal["run", "save", "browse", "leave"]:
        """What a test does with the block.

        Raises:
            UnmarkedBlock: the page does not say it.
        """
        if self.mark == "not run":
            return "leave"
        if self.mark == "file":
            return "save"
        if self.mark == "browser":
            return "browse"
        if self.language in ("console", "sh"):
            return "run"
        raise UnmarkedBlock(f"{self.place}: this block is neither run nor marked with <!-- not run: REASON -->")

    @property
    def programs(self) -> list[str]:
        """The programs that the block needs, besides curl and Python."""
        return self.note.split() if self.mark == "needs" else []


@dataclass(frozen=True)
class Command:
    """One command of a block.

    Attributes:
        text: what the reader types.
        output: what the page shows as its output; None if the page does not show it.
        may_fail: whether the next command of the page prints the exit code.
    """

    text: str
    output: str | None
    may_fail: bool = False


def blocks(text: str, page: str) -> list[Block]:
    """All blocks of a page, in order.

    Raises:
        UnmarkedBlock: there is an indented block, which has no language and can't be marked.
    """
    found: list[Block] = []
    lines = enumerate(text.splitlines(), start=1)
    above, before = "", ""
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is not None:
            mark = _MARK.fullmatch(above)
            inside = "".join(f"{each}\n" for each in _until_fence(lines))
            found.append(Block(f"{page}:{number}", fence[1], inside, *(mark.groups() if mark else ())))
        elif _INDENTED_FENCE.match(line) or (line.startswith("    ") and not before.strip()):
            raise UnmarkedBlock(f"{page}:{number}: write this block between fences at the beginning of a line")
        above, before = ("", "") if fence else (line, line)
    return found


def _until_fence(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    for _, line in lines:
        if line == "```":
            return
        yield line


def commands(block: Block) -> list[Command]:
    """The commands that a reader types in a block.

    Raises:
        UnmarkedBlock: it begins with output.
    """
    if block.language == "sh":
        return [Command(block.text.rstrip("\n"), None)]
    typed: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            typed.append(([line[2:]], []))
        elif not typed:
            raise UnmarkedBlock(f"{block.place}: a console block begins with a command behind '$ '")
        elif line.startswith("> ") and not typed[-1][1]:
            typed[-1][0].append(line[2:])
        else:
            typed[-1][1].append(line)
    texts = ["\n".join(words) for words, _ in typed]
    followed = [*texts[1:], ""]
    return [
        Command(text, "".join(f"{line}\n" for line in output), next_one.startswith("echo $?"))
        for text, next_one, (_, output) in zip(texts, followed, typed, strict=True)
    ]


def matches(expected: str, printed: str) -> bool:
    """Whether a command printed what the page says.

    `...` means any text within a line, and a line of nothing else means any number of lines. Times and versions of a
    config only have to look alike.
    """
    return re.fullmatch("".join(map(_pattern, expected.splitlines())), _trimmed(printed)) is not None


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    escaped = re.escape(_VARIABLE.sub("\0", line.rstrip()))
    return escaped.replace(r"\.\.\.", ".*").replace("\0", f"(?:{_VARIABLE.pattern})") + r"\n"


def _trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())
