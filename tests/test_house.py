"""The house's rules: what may import what, how long a room may be, that everything public says what it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gcount"
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

# A room may import its own and those with a lower number, never one beside it or above.
# A new room gets its place here.
FLOORS = {
    "gcount": 0,
    "gcount.errors": 0,
    "gcount.version": 0,
    "gcount.core": 1,
    "gcount.logs": 2,
    "gcount.settings": 2,
    "gcount.sockets": 2,
    "gcount.throttle": 2,
    "gcount.metrics": 3,
    "gcount.storage": 4,
    "gcount.cluster": 5,
    "gcount.node": 6,
    "gcount.status": 7,
    "gcount.api": 8,
    "gcount.__main__": 9,
    "gcount.commands": 9,
}

# What would let a clock, chance, the disk or the network below the line.
IMPURE = {
    "datetime",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "signal",
    "subprocess",
    "tempfile",
    "time",
    "uuid",
}
IMPURE |= {"anyio", "asyncio", "concurrent", "multiprocessing", "select", "selectors", "socket", "ssl", "threading"}
IMPURE |= {"hypercorn", "logging", "quart", "quart_trio", "structlog", "trio", "trio_websocket"}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """The full names of all that the module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            # "from gcount import logs" names a room; "from gcount import __version__" the package itself.
            if node.module == "gcount":
                for alias in node.names:
                    full = f"gcount.{alias.name}"
                    yield full if full in FLOORS else "gcount"
            else:
                yield node.module


@pytest.fixture(params=FILES, ids=[str(file.relative_to(PACKAGE.parent)) for file in FILES])
def file(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


def test_imports_run_downward(file: Path) -> None:
    module = name_of(file)
    room = room_of(module)
    assert room in FLOORS, f"{room} has no place in FLOORS yet"
    for imported in imports(ast.parse(file.read_text()), module):
        if imported.split(".")[0] == "gcount" and room_of(imported) != room:
            assert room_of(imported) in FLOORS, f"{imported} has no place in FLOORS yet"
            assert FLOORS[room_of(imported)] < FLOORS[room], f"{module} must not import {imported}"


def test_the_core_is_pure(file: Path) -> None:
    module = name_of(file)
    if room_of(module) not in ("gcount.core", "gcount.errors"):
        return
    tree = ast.parse(file.read_text())
    assert not {imported.split(".")[0] for imported in imports(tree, module)} & IMPURE
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "__import__", "eval", "exec"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_rooms_stay_small(file: Path) -> None:
    source = file.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"


def test_everything_public_has_a_docstring(file: Path) -> None:
    tree = ast.parse(file.read_text())
    silent = [name for name, node in public(tree) if ast.get_docstring(node) is None]
    if file.name != "__init__.py" and ast.get_docstring(tree) is None:
        silent.append("the module")
    assert silent == []


def public(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            yield node.name, node


def test_the_checks_can_fail() -> None:
    tree = ast.parse("import time\nfrom gcount.api import http\nfrom gcount import logs, __version__\ndef f(): pass")
    assert list(imports(tree, "m")) == ["time", "gcount.api", "gcount.logs", "gcount"]
    assert [name for name, node in public(tree) if ast.get_docstring(node) is None] == ["f"]
