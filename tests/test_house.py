"""The plan of the house: which room may import which, and how large rooms, files and functions may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "glr_dist"

# room -> the rooms that it may import, besides itself
_BASE = ("errors", "seeds", "settings")
_MATERIAL = ("core", "methods", "models", "data", "attacks", "corruptions", "store")
_RUNS = (*_BASE, "core", "models", "data", "store", "config")
ALLOWED: dict[str, tuple[str, ...]] = {
    "errors": (),
    "seeds": ("errors",),
    "settings": ("errors",),
    "core": _BASE,
    "methods": (*_BASE, "core"),
    "models": (*_BASE, "core"),
    "data": (*_BASE, "core"),
    "attacks": (*_BASE, "core", "models"),
    "corruptions": (*_BASE, "core"),
    "store": _BASE,
    "config": (*_BASE, *_MATERIAL),
    "runs": _RUNS,
    "reporting": (*_RUNS, "runs"),  # looks at what runs left; nothing but commands and the Python door look at it
    "workers": (*_BASE, "core"),
    "launch": (*_BASE, "core", "data", "store", "config", "workers"),
    "engine": (*_BASE, *_MATERIAL, "config", "runs", "workers"),
    "robustness": (*_BASE, *_MATERIAL, "config", "runs", "workers"),
    "tuning": (*_BASE, *_MATERIAL, "config", "runs", "workers", "engine"),
    "planning": (*_BASE, *_MATERIAL, "config", "workers", "engine", "reporting"),
    "commands": (
        *_BASE,
        *_MATERIAL,
        "config",
        "runs",
        "workers",
        "launch",
        "engine",
        "robustness",
        "tuning",
        "planning",
        "reporting",
    ),
    "study": (
        *_BASE,
        *_MATERIAL,
        "config",
        "runs",
        "engine",
        "robustness",
        "reporting",
        "commands",
    ),  # a door for Python
    "cli": (*_BASE, "commands"),
    "__main__": ("cli",),
}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, SHARE_OF_A_ROOM = 300, 60, 0.2


def modules(package: Path = PACKAGE) -> list[Path]:
    return sorted(package.rglob("*.py"))


def room(name: str) -> str:
    """The room of a module: ``glr_dist.core.noise`` -> ``core``; the package's own __init__ is the door, "" ."""
    return [*name.split("."), "", ""][1]


def name_of(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """The package's own modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "glr_dist")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            if (node.module or "").split(".")[0] == "glr_dist":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    as_file = PACKAGE.parent / inner.replace(".", "/")
                    is_module = as_file.is_dir() or as_file.with_suffix(".py").is_file()
                    yield inner if is_module else str(node.module)


def arrows(package: Path = PACKAGE) -> Iterator[str]:
    """Every import that the plan forbids."""
    for path in modules(package):
        own = room(name_of(path, package))
        if not own:
            continue  # the package's door opens lazily onto any room
        for imported in imports(path):
            other = room(imported)
            if path.name == "config.py" and own != "config":  # of a room: so that reading settings needs no torch
                allowed = other == "errors"
            elif own == "config" and other == "engine":  # puts the rooms' settings together
                allowed = imported == "glr_dist.engine.config"
            else:
                allowed = other in ("", own) or other in ALLOWED[own]
            if not allowed:
                yield f"{name_of(path, package)} imports {imported}"


def circles(package: Path = PACKAGE) -> list[list[str]]:
    """Modules that import each other in a circle."""
    graph = {name_of(path, package): set(imports(path)) for path in modules(package)}
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, above: list[str]) -> None:
        if name in above:
            found.append([*above[above.index(name) :], name])
        elif name not in done:
            for other in sorted(graph.get(name, ())):
                walk(other, [*above, name])
            done.add(name)

    for name in graph:
        if name != "glr_dist":
            walk(name, [])
    return found


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function and method."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_room_has_its_place_in_the_plan() -> None:
    assert {room(name_of(path)) for path in modules()} - {""} == set(ALLOWED)


def test_no_room_imports_upwards() -> None:
    assert list(arrows()) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles() == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("core/noise.py", "from glr_dist.engine.plan import Plan"),
        ("models/config.py", "from glr_dist.core.noise import score"),
        ("engine/crew.py", "from glr_dist.robustness.findings import Findings"),
        ("engine/crew.py", "from glr_dist import launch"),
        ("launch/jobs.py", "def late():\n    import glr_dist.commands.train"),
        ("config.py", "from glr_dist.engine.crew import Crew"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, place: str, line: str) -> None:
    package = tmp_path / "glr_dist"
    (package / place).parent.mkdir(parents=True, exist_ok=True)
    (package / place).write_text("from glr_dist.errors import UserError\n")
    assert list(arrows(package)) == []
    (package / place).write_text(f"{line}\n")
    assert len(list(arrows(package))) == 1


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "glr_dist"
    (package / "core").mkdir(parents=True)
    (package / "core" / "one.py").write_text("import glr_dist.core.two\n")
    (package / "core" / "two.py").write_text("import glr_dist.core.one\n")
    assert circles(package)


def test_files_and_functions_stay_small() -> None:
    assert [f"{name_of(path)}: {lines(path)}" for path in modules() if lines(path) > LINES_OF_A_FILE] == []
    long = [
        f"{name_of(path)}.{name}: {size}"
        for path in modules()
        for name, size in functions(path)
        if size > LINES_OF_A_FUNCTION
    ]
    assert long == []


def test_no_room_is_the_house() -> None:
    sizes: dict[str, int] = {}
    for path in modules():
        sizes[room(name_of(path))] = sizes.get(room(name_of(path)), 0) + lines(path)
    whole = sum(sizes.values())
    assert [
        f"{name}: {100 * size / whole:.1f}%" for name, size in sizes.items() if size > SHARE_OF_A_ROOM * whole
    ] == []
