"""The rules of the architecture: what may import what, how long a module may be, what needs a docstring."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "gcount"
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 350
TESTED_BY_NAME = {"core", "storage"}  # packages of which each module has a file of tests of its own
MAX_FUNCTION_LINES = 60
MAX_METHODS = 15  # of a class
MAX_MODULES = 12  # of a package, without those in packages inside it

# What has more, and how much. The reason for each is in this section of docs/architecture.md.
LARGER = {
    "gcount.core.state.counters.Counters": 33,
    "gcount.core.state": 13,
    "gcount.net.connection.Connection": 23,
    "gcount.node.node.Node": 19,
    "gcount.cluster.identity_guard.IdentityGuard": 19,
    "gcount.cluster": 13,
    "gcount.cluster.links": 13,
}
LARGER_SECTION = "### Larger than the usual\n"

# A package may import its own modules and those with a lower number, never one beside it or above.
# A new package gets its place here.
LAYERS = {
    "gcount": 0,
    "gcount.errors": 0,
    "gcount.version": 0,
    "gcount.core.limits": 1,
    "gcount.core.options": 2,
    "gcount.core.state": 3,
    "gcount.core.writes": 4,
    "gcount.core.format": 4,
    "gcount.core.protocol": 5,
    "gcount.core": 6,
    "gcount.events": 7,
    "gcount.settings": 7,
    "gcount.observe": 7,
    "gcount.net": 8,
    "gcount.storage": 8,
    "gcount.cluster": 9,
    "gcount.node": 10,
    "gcount.http": 11,
    "gcount.redis": 11,
    "gcount.server": 12,
    "gcount.cli": 13,
    "gcount.__main__": 14,
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

# What only these may import, so that a library can be replaced in one place: modules, and all those inside them.
CONFINED = {
    "hypercorn": ("gcount.http.hypercorn",),
    "h11": ("gcount.http.hypercorn",),
    "quart": ("gcount.http.app",),
    "quart_trio": ("gcount.http.app",),
    "werkzeug": ("gcount.http.app",),
    "msgspec": ("gcount.core", "gcount.storage"),
}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """The longest name in LAYERS that the module's name begins with."""
    parts = module.split(".")
    names = [".".join(parts[:size]) for size in range(len(parts), 0, -1)]
    return next(name for name in names if name in LAYERS)


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """The full names of all that the module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            # "from gcount.core import limits" names a module; "from gcount import __version__" the package itself.
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


MODULES = {name_of(file) for file in FILES}


@pytest.fixture(params=FILES, ids=[str(file.relative_to(PACKAGE.parent)) for file in FILES])
def file(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


def test_imports_run_downward(file: Path) -> None:
    module = name_of(file)
    package = package_of(module)
    assert package != "gcount" or module == "gcount", f"{module} has no place in LAYERS yet"
    for imported in imports(ast.parse(file.read_text()), module):
        if imported.split(".")[0] == "gcount" and package_of(imported) != package:
            assert LAYERS[package_of(imported)] < LAYERS[package], f"{module} must not import {imported}"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Neither at run time nor for types alone: of two files that need each other, neither is read by itself."""
    graph = {name_of(file): set(imports(ast.parse(file.read_text()), name_of(file))) & MODULES for file in FILES}
    assert circle_in(graph) == []


def circle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The names along one circle, of which the last is the first again; none when there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_the_core_is_pure(file: Path) -> None:
    module = name_of(file)
    if not package_of(module).startswith(("gcount.core", "gcount.errors")):
        return
    tree = ast.parse(file.read_text())
    assert not {imported.split(".")[0] for imported in imports(tree, module)} & IMPURE
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "__import__", "eval", "exec"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_libraries_are_imported_where_they_may_be(file: Path) -> None:
    module = name_of(file)
    for imported in imports(ast.parse(file.read_text()), module):
        places = CONFINED.get(imported.split(".")[0], (module,))
        assert is_inside(module, places), f"{module} must not import {imported}: only {' and '.join(places)} may"


def is_inside(module: str, places: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{place}.") for place in places)


def test_modules_stay_small(file: Path) -> None:
    source = file.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"


def methods(tree: ast.AST, module: str) -> dict[str, int]:
    """How many methods each class has, by its full name."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {
        f"{module}.{one.name}": sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in one.body)
        for one in classes
    }


def modules(names: Iterable[str]) -> dict[str, int]:
    """How many modules each package has."""
    return Counter(name.rpartition(".")[0] for name in names)


def too_large(found: Mapping[str, int], most: int) -> dict[str, int]:
    """What is above the limit, or above what it is allowed for a reason."""
    return {name: size for name, size in found.items() if size > LARGER.get(name, most)}


def test_classes_stay_small(file: Path) -> None:
    assert too_large(methods(ast.parse(file.read_text()), name_of(file)), MAX_METHODS) == {}


def test_packages_stay_small() -> None:
    assert too_large(modules(name_of(file) for file in FILES if file.name != "__init__.py"), MAX_MODULES) == {}


def test_larger_classes_and_packages_have_a_reason_in_the_documentation_with_their_size() -> None:
    section = argued_for((TESTS.parent / "docs" / "architecture.md").read_text())
    found = modules(name_of(file) for file in FILES if file.name != "__init__.py")
    for file in FILES:
        found |= methods(ast.parse(file.read_text()), name_of(file))
    assert {name: found.get(name) for name in LARGER} == LARGER
    for name, size in LARGER.items():
        assert re.search(named_there(name) + rf"[^.]*\b{size}\b", section), f"{name} is not argued for"


def argued_for(document: str) -> str:
    """The section that says why some classes and packages are larger."""
    return document.partition(LARGER_SECTION)[2].partition("\n#")[0]


def named_there(name: str) -> str:
    """How the section names a class, or a package: a regular expression."""
    short = name.rpartition(".")[2]
    return f"`{short}`" if short != short.lower() else f"`{name.removeprefix('gcount.').replace('.', '/')}`"


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


def test_fakes_rest_on_nothing_but_the_product_and_each_other() -> None:
    for fake in sorted((TESTS / "fakes").glob("*.py")):
        tree = ast.parse(fake.read_text())
        mine = {imported for imported in imports(tree, fake.stem) if imported.split(".")[0] == "tests"}
        assert all(imported.startswith("tests.fakes.") for imported in mine), f"{fake.name} imports {mine}"
        silent = [name for name, node in public(tree) if ast.get_docstring(node) is None]
        assert silent == []
        assert ast.get_docstring(tree), f"{fake.name} does not say what it is"


def named_after(module: str) -> Path | None:
    """The file of tests that a module has to have; None where there is no rule."""
    packages, name = module.split(".")[1:-1], module.split(".")[-1]
    if packages and packages[0] in TESTED_BY_NAME and PACKAGE.joinpath(*packages, f"{name}.py").exists():
        return TESTS / packages[0] / f"test_{name}.py"
    return None


def test_each_module_of_the_core_and_the_storage_has_tests_of_its_name(file: Path) -> None:
    wanted = named_after(name_of(file))
    if wanted is not None:
        assert wanted.exists(), f"{wanted.relative_to(TESTS)} is missing"
        assert "def test_" in wanted.read_text()


def test_the_checks_can_fail() -> None:
    tree = ast.parse("import time\nfrom gcount.http import app\nfrom gcount import errors, __version__\ndef f(): pass")
    assert list(imports(tree, "m")) == ["time", "gcount.http.app", "gcount.errors", "gcount"]
    assert [name for name, node in public(tree) if ast.get_docstring(node) is None] == ["f"]
    assert named_after("gcount.core.state.columns") == TESTS / "core" / "test_columns.py"
    assert named_after("gcount.storage.inspect.survey") == TESTS / "storage" / "test_survey.py"
    assert (
        named_after("gcount.storage.inspect") is named_after("gcount.node.node") is named_after("gcount.errors") is None
    )
    assert is_inside("gcount.http.app", ("gcount.core", "gcount.http"))
    assert not is_inside("gcount.http.application", ("gcount.http.app",))


def test_the_checks_of_sizes_can_fail() -> None:
    body = "\n".join(f"    def f{number}(self): pass" for number in range(MAX_METHODS))
    small, large = f"class Small:\n{body}", f"class Large:\n{body}\n    async def g(self): pass"
    found = methods(ast.parse(f"{small}\n{large}"), "m")
    assert too_large(found, MAX_METHODS) == {"m.Large": MAX_METHODS + 1}
    name, size = next(iter(LARGER.items()))
    assert too_large({name: size}, MAX_METHODS) == {}
    assert too_large({name: size + 1}, MAX_METHODS) == {name: size + 1}
    names = [f"gcount.p.m{number}" for number in range(MAX_MODULES + 1)]
    assert too_large(modules([*names, "gcount.p.inner.m"]), MAX_MODULES) == {"gcount.p": MAX_MODULES + 1}
    document = f"about `Node`\n\n{LARGER_SECTION}\n- `Peers` has 16.\n\n### Next\n`Log`"
    assert re.findall("`([^`]+)`", argued_for(document)) == ["Peers"]
    assert [named_there("gcount.net.connection.Connection"), named_there("gcount.cluster.links")] == [
        "`Connection`",
        "`cluster/links`",
    ]


def test_the_check_for_circles_can_fail() -> None:
    """With imports that are there for types only, and inside of functions."""
    sources = {
        "gcount.net.stream": "if TYPE_CHECKING:\n    from gcount.net.listeners import open_listeners",
        "gcount.net.listeners": "def f():\n    from gcount.net import descriptors",
        "gcount.net.descriptors": "import gcount.net.stream",
    }
    graph = {module: set(imports(ast.parse(source), module)) & MODULES for module, source in sources.items()}
    assert sorted(set(circle_in(graph))) == sorted(sources)
    graph["gcount.net.descriptors"] = set()
    assert circle_in(graph) == []
