"""The packages import each other in one direction only, and the light ones stay light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SOURCES = {
    "logwire": ROOT / "proto" / "logwire",
    "logstore": ROOT / "logstore",
    "consumer_groups": ROOT / "consumer_groups",
    "logserver": ROOT / "server" / "logserver",
    "tailrace": ROOT / "tailrace",
    "logctl": ROOT / "logctl",
}

#: What each package may import of the others: whole packages, or single modules of one.
ALLOWED = {
    "logwire": set(),
    "logstore": set(),
    "consumer_groups": {"logstore"},
    "logserver": {"consumer_groups", "logstore", "logwire"},
    "tailrace": {"logwire", "logstore.batch", "logstore.errors", "logstore.partitioner", "logstore.topic_name"},
    "logctl": {"tailrace", "logstore"},  # the latter offline: for what reads a data directory of a stopped server
}

#: The storage engine and the group state machines know no event loop, no wire and no server.
FORBIDDEN = {
    "logstore": {"asyncio", "grpc", "google", "uvloop"},
    "consumer_groups": {"grpc", "google", "uvloop"},
    "tailrace": {"numpy", "uvloop", "kio", "mmap_ninja", "structlog"},
    "logctl": {"numpy", "uvloop", "kio", "mmap_ninja", "structlog", "grpc"},
}

#: All of consumer_groups but these is state machines and arithmetic: it waits for nothing, so it knows no event loop.
WAITS = {"commits", "coordinator", "expiry", "joins", "live", "rewriting", "seeks", "timers", "topics", "turns"}
PURE = sorted(
    str(path.relative_to(SOURCES["consumer_groups"]))
    for path in SOURCES["consumer_groups"].rglob("*.py")
    if path.stem not in WAITS
)


def imported_names(path: Path, *, at_once: bool = False) -> Iterator[str]:
    """Every absolute module name that the file imports, wherever in the file it does. at_once: without what it imports
    only in a function, or for types."""
    tree = ast.parse(path.read_text(), path.name)
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively in line {node.lineno}"
            assert node.module is not None
            # `from logstore import batch` names the module logstore.batch.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in allowed)


@pytest.mark.parametrize("package", SOURCES)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    files = [path for path in SOURCES[package].rglob("*.py") if "_pb2" not in path.name]
    assert files, f"no sources of {package} found: this test looks in the wrong place"
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported_names(path)
        if (name.split(".")[0] in SOURCES.keys() - {package} and not within(name, ALLOWED[package]))
        or name.split(".")[0] in FORBIDDEN.get(package, set())
    ]
    assert wrong == []


READING_ORDER = "Reading order:"


def ordered_packages() -> dict[str, Path]:
    """Those whose docstring tells in which order to read their modules, by their dotted names."""
    return {
        ".".join((top, *init.parent.relative_to(root).parts)): init.parent
        for top, root in SOURCES.items()
        for init in root.rglob("__init__.py")
        if READING_ORDER in init.read_text()
    }


def parts_of(package: Path) -> dict[str, list[Path]]:
    """The files of each module and of each package in it."""
    modules = {path.stem: [path] for path in package.glob("*.py") if path.name != "__init__.py"}
    return modules | {init.parent.name: [*init.parent.rglob("*.py")] for init in package.glob("*/__init__.py")}


def reading_order(package: Path) -> list[str]:
    """The names as they stand in the docstring: in a paragraph, or in the first column of a table."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert docstring is not None
    text = docstring.partition(READING_ORDER)[2].lstrip("\n").partition("\n\n")[0]
    if text.startswith("    "):
        rows = [line[4:] for line in text.splitlines()]
        text = " ".join(row.partition("  ")[0] for row in rows)
    return list(dict.fromkeys(re.findall(r"\w+", text)))


@pytest.mark.parametrize("package", ordered_packages())
def test_modules_stand_in_the_reading_order_behind_what_they_import(package: str) -> None:
    directory = ordered_packages()[package]
    parts = parts_of(directory)
    order = [name for name in reading_order(directory) if name in parts]
    assert parts.keys() - set(order) == set(), "these are not in the docstring"
    wrong = [
        f"{name} stands before {other}"
        for number, name in enumerate(order)
        for path in parts[name]
        for imported in imported_names(path, at_once=True)
        for other in order[number + 1 :]
        if within(imported, {f"{package}.{other}"})
    ]
    assert wrong == []


def test_all_that_is_read_by_itself_has_a_reading_order() -> None:
    assert SOURCES.keys() - {"logwire"} <= ordered_packages().keys()


@pytest.mark.parametrize("module", PURE)
def test_the_group_state_machine_knows_no_event_loop(module: str) -> None:
    names = {name.split(".")[0] for name in imported_names(SOURCES["consumer_groups"] / module)}
    assert "asyncio" not in names


def test_only_what_reads_a_stopped_data_directory_opens_the_storage_engine_in_logctl() -> None:
    opens = {
        path.parent.name
        for path in SOURCES["logctl"].rglob("*.py")
        for name in imported_names(path)
        if name.split(".")[0] == "logstore" and not within(name, ALLOWED["tailrace"])
    }
    assert opens == {"segments"}


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in memory after the statement ran in a fresh interpreter."""
    script = f"import sys\n{statement}\nsys.stdout.write(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    path = [str(ROOT), str(ROOT / "proto"), str(ROOT / "server")]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_naming_the_storage_package_loads_nothing_else() -> None:
    bare = loaded_by("pass")
    assert loaded_by("import logstore") - bare == {"logstore"}


@pytest.mark.parametrize("statement", ["import tailrace, tailrace.aio", "import logctl.main"])
def test_the_client_works_without_the_weight_of_the_server(statement: str) -> None:
    assert not loaded_by(statement) & {"numpy", "uvloop", "kio", "mmap_ninja", "structlog", "logserver"}
