"""The house rules as tests: each failure names what is banned, where, and what to do instead.

A rule is a function from one source file to its violations, so that every rule is itself tested
against a snippet that breaks it (`BROKEN`).
"""

import ast
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MODULE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 60
COLUMNS_MAX: Final = 100
# Notes to tools cannot be wrapped, and nobody reads them.
PRAGMA: Final = re.compile(r"\s+# (type: ignore|noqa|fmt:).*$")

# A package may import its own modules, and packages of a lower number.
LAYERS: Final = {
    "units": 0,
    "errors": 0,
    "messages": 1,
    "parts": 2,
    "controller": 3,
    "worker": 3,
    "client": 3,
    "engines": 4,
    "models": 4,
    "telemetry": 4,
    "sim": 4,
    "live": 4,
    "cli": 5,
    "__init__": 6,
    "__main__": 6,
}
# What else is allowed within the layer of the shells. Roles and parts have no such line.
SIDEWAYS: Final = {
    # The public names, as users write them.
    "cli": {"__init__"},
    "live": {"telemetry", "models", "engines"},
    "sim": {"telemetry", "models", "engines"},
    "engines": {"models"},
    "models": {"engines"},
}
CORE: Final = {"units", "errors", "messages", "parts", "controller", "worker", "client"}
PURE: Final = CORE | {"sim"}
# Libraries that neither wait, nor read a clock, nor touch a file, socket or thread.
PURE_LIBRARIES: Final = {
    "abc",
    "array",
    "bisect",
    "collections",
    "csv",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "msgspec",
    "operator",
    "random",
    "re",
    "struct",
    "types",
    "typing",
    "zlib",
}
# The simulator reads scenarios and writes logs, so it may open files besides.
SIM_LIBRARIES: Final = PURE_LIBRARIES | {"hashlib", "json", "pathlib", "tomllib", "gc"}
SHELLS_THAT_PRINT: Final = {"cli", "live", "telemetry"}


class Source:
    """One Python file: where it is, what it says, what it imports."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        parts = Path(path).with_suffix("").parts
        self.in_product = parts[:2] == ("src", "clockwork")
        self.in_tests = parts[0] == "tests"
        # Package or single module directly below clockwork; empty elsewhere.
        self.package = parts[2] if self.in_product else ""
        self.module = ".".join(parts[1:]).removesuffix(".__init__") if self.in_product else path

    def at(self, line: int, text: str) -> str:
        """Return a violation in the form that editors can jump to."""
        return f"{self.path}:{line}: {text}"

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and full dotted name of everything imported, at any depth."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Yield every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def calls(self) -> Iterator[tuple[int, str]]:
        """Yield line and dotted name of every call of a plain or dotted name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node.lineno, ast.unparse(node.func)


Rule = Callable[[Source], Iterator[str]]


def layers(source: Source) -> Iterator[str]:
    """Imports go down the layers only; roles and parts never import their neighbours."""
    if not source.in_product:
        return
    for line, name in source.imports():
        target = _package_of(name)
        if target is None or target == source.package:
            continue
        is_down = LAYERS[target] < LAYERS[source.package]
        if not is_down and target not in SIDEWAYS.get(source.package, set()):
            yield source.at(
                line,
                f"{source.package} must not import {target}: move what both need to a lower layer "
                f"(messages, parts), or pass it in as an argument",
            )


def parts_are_apart(source: Source) -> Iterator[str]:
    """A part is one mechanism: it imports no other part."""
    if source.package != "parts":
        return
    for line, name in source.imports():
        if name.startswith("clockwork.parts"):
            yield source.at(line, f"parts must not import {name}: let the role compose them")


def purity(source: Source) -> Iterator[str]:
    """Roles, parts and the simulator import no library that does I/O or reads a clock."""
    if source.package not in PURE:
        return
    allowed = SIM_LIBRARIES if source.package == "sim" else PURE_LIBRARIES
    for line, name in source.imports():
        library = name.split(".")[0]
        if library != "clockwork" and library not in allowed:
            yield source.at(
                line,
                f"{source.package} must not import {library}: take time and data as arguments and "
                f"leave I/O to live/ (pure libraries are listed in PURE_LIBRARIES)",
            )


def sizes(source: Source) -> Iterator[str]:
    """Modules, functions and lines stay short enough to be read in one pass."""
    if len(source.lines) > MODULE_LINES_MAX:
        yield source.at(1, f"{len(source.lines)} lines, {MODULE_LINES_MAX} allowed: split it")
    for node in source.functions():
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES_MAX:
            yield source.at(
                node.lineno,
                f"{node.name} has {length} lines, {FUNCTION_LINES_MAX} allowed: "
                f"extract helpers that compute and return",
            )
    for number, text in enumerate(source.lines, 1):
        columns = len(PRAGMA.sub("", text))
        if columns > COLUMNS_MAX:
            yield source.at(number, f"{columns} columns, {COLUMNS_MAX} allowed: wrap it")


def docstrings(source: Source) -> Iterator[str]:
    """Modules, public classes and functions, and all tests say in a sentence what they do."""
    if ast.get_docstring(source.tree) is None and source.text.strip():
        yield source.at(1, "no module docstring: say in one sentence what this is")
    if source.in_product:
        for node in _public(source.tree):
            if ast.get_docstring(node) is None:
                yield source.at(node.lineno, f"{node.name} has no docstring: say what it returns")
    elif source.in_tests:
        for test in source.functions():
            if test.name.startswith("test_") and ast.get_docstring(test) is None:
                yield source.at(test.lineno, f"{test.name} has no docstring: name the behaviour")


def no_utils(source: Source) -> Iterator[str]:
    """A module is one noun; there is no drawer for the rest."""
    if Path(source.path).stem in {"utils", "util", "misc", "common"}:
        yield source.at(1, "no such module: name it after what it holds, or make it a part")


def nothing_unfinished(source: Source) -> Iterator[str]:
    """Work left open has a number; nothing is a stub."""
    marks = re.compile(r"\b(?:T[O]DO|FIX[M]E|XX[X])\b(?!\(#\d+\))")
    for number, text in enumerate(source.lines, 1):
        if marks.search(text):
            yield source.at(number, "an open end without a number: finish it or write (#N) behind")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc).split("(")[0]
            if name == "NotImplementedError":
                yield source.at(node.lineno, "a stub: build it, or use a Protocol for interfaces")


def narrow_excepts(source: Source) -> Iterator[str]:
    """Exceptions are caught by name; the core catches nothing wider than it can mend."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield source.at(node.lineno, "bare except: name the exceptions that you can handle")
        elif source.package in CORE and ast.unparse(node.type) in {"Exception", "BaseException"}:
            yield source.at(node.lineno, "the core must not catch everything: let bugs surface")


def printing(source: Source) -> Iterator[str]:
    """Only shells print; roles emit a `Say` effect, libraries return or raise."""
    if not source.in_product or source.package in SHELLS_THAT_PRINT:
        return
    for line, name in source.calls():
        if name == "print":
            yield source.at(line, "print() outside a shell: emit a Say effect, or return the text")


def no_sleeping_tests(source: Source) -> Iterator[str]:
    """A test waits for a state, never for time to pass."""
    if not (source.in_tests and Path(source.path).name.startswith("test_")):
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        yields_only = [ast.unparse(argument) for argument in node.args] == ["0"]
        if name in {"time.sleep", "sleep"} or (name == "asyncio.sleep" and not yields_only):
            yield source.at(
                node.lineno, f"{name} in a test: wait for the state (an event, a line, a port)"
            )


RULES: Final[dict[str, Rule]] = {
    "layers": layers,
    "parts_are_apart": parts_are_apart,
    "purity": purity,
    "sizes": sizes,
    "docstrings": docstrings,
    "no_utils": no_utils,
    "nothing_unfinished": nothing_unfinished,
    "narrow_excepts": narrow_excepts,
    "printing": printing,
    "no_sleeping_tests": no_sleeping_tests,
}

BROKEN: Final = [
    ("layers", "src/clockwork/worker/core.py", "from clockwork.controller import core"),
    ("layers", "src/clockwork/sim/world.py", "import clockwork.live.wire"),
    ("layers", "src/clockwork/live/wire.py", "from clockwork import cli"),
    ("parts_are_apart", "src/clockwork/parts/a.py", "from clockwork.parts.timers import Timers"),
    ("purity", "src/clockwork/controller/core.py", "import time"),
    ("purity", "src/clockwork/parts/memory.py", "def f():\n    import numpy"),
    ("purity", "src/clockwork/sim/loop.py", "import asyncio"),
    ("sizes", "src/clockwork/live/a.py", "\n" * 401),
    ("sizes", "src/clockwork/live/a.py", "def f():\n" + "    x = 1\n" * 60),
    ("sizes", "tests/unit/test_a.py", "x = '" + "a" * 96 + "'"),
    ("docstrings", "src/clockwork/live/a.py", "x = 1"),
    ("docstrings", "src/clockwork/live/a.py", '"""A."""\nclass A:\n    pass'),
    ("docstrings", "src/clockwork/live/a.py", '"""A."""\nclass _A:\n    """A."""\ndef f(): 1'),
    ("docstrings", "tests/unit/test_a.py", '"""A."""\ndef test_a(): pass'),
    ("no_utils", "src/clockwork/live/utils.py", ""),
    ("nothing_unfinished", "src/clockwork/live/a.py", f"# {'todo'.upper()}: later"),
    ("nothing_unfinished", "src/clockwork/live/a.py", "raise NotImplementedError('x')"),
    ("narrow_excepts", "src/clockwork/live/a.py", "try: f()\nexcept: pass"),
    ("narrow_excepts", "src/clockwork/parts/a.py", "try: f()\nexcept Exception: pass"),
    ("printing", "src/clockwork/engines/onnx.py", "print(1)"),
    ("no_sleeping_tests", "tests/unit/test_a.py", "import time\ntime.sleep(1)"),
    ("no_sleeping_tests", "tests/unit/test_a.py", "async def f(): await asyncio.sleep(0.1)"),
]


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps_the_rule(rule: str) -> None:
    """Every file of the project keeps the rule."""
    violations = [text for source in sources() for text in RULES[rule](source)]
    assert not violations, f"{RULES[rule].__doc__}\n" + "\n".join(violations)


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_the_rule_finds_what_it_bans(rule: str, path: str, text: str) -> None:
    """A snippet that breaks the rule is reported by it."""
    assert list(RULES[rule](Source(path, text)))


def test_every_rule_has_a_snippet_that_breaks_it() -> None:
    """No rule can stop working unseen."""
    assert set(RULES) == {rule for rule, _, _ in BROKEN}


def test_modules_import_each_other_without_cycles() -> None:
    """Modules form a tree of imports that can be read from the bottom up."""
    product = {source.module: source for source in sources() if source.in_product}
    graph = {name: _modules_imported(source, set(product)) for name, source in product.items()}
    done: set[str] = set()
    for name in sorted(graph):
        cycle = _cycle_from(name, graph, done, ())
        assert not cycle, f"cycle: {' -> '.join(cycle)}; move what both need to a lower module"


@functools.cache
def sources() -> tuple[Source, ...]:
    """Return every Python file of the project, in a fixed order."""
    folders = ("src", "tests", "benchmarks", "examples")
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(
        Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths
    )


def _package_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "clockwork":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"


def _public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                is_function = isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
                if is_function and not member.name.startswith("_"):
                    yield member


def _modules_imported(source: Source, modules: set[str]) -> list[str]:
    """Return the product modules that `source` imports when it is itself imported."""
    found = set()
    for line, name in source.imports():
        if source.lines[line - 1].startswith(" "):
            continue  # Inside a function or a TYPE_CHECKING block: not at import time.
        module = name if name in modules else name.rpartition(".")[0]
        if module in modules and module != source.module:
            found.add(module)
    return sorted(found)


def _cycle_from(
    name: str, graph: dict[str, list[str]], done: set[str], path: tuple[str, ...]
) -> tuple[str, ...]:
    if name in path:
        return (*path[path.index(name) :], name)
    if name in done:
        return ()
    for target in graph[name]:
        cycle = _cycle_from(target, graph, done, (*path, name))
        if cycle:
            return cycle
    done.add(name)
    return ()
