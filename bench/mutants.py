"""Change one thing in a module, run the unit tests, and list the changes that no test notices.

    python -m bench.mutants server/engine/scheduler server/engine/kv_cache server/engine/client/admission.py

Each line is a mutant that survived: file, line, the code and what it became. A table by file follows.

The tests run once unchanged, to see which of them run which function. A mutant then meets the tests that run its
function, or any function of the module where it is outside of them, the quickest first. Each has a process of its own,
forked from this one, that imports the mutant in the place of the module; nothing is written to the tree. Processes that
a test starts by a command import the module as it is.
"""

import argparse
import ast
import contextlib
import importlib
import os
import pickle
import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import coverage
import hypothesis
import pytest

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TYPES = {"annotation", "returns"}
"""Fields of nodes that no test should have to notice."""

_IMPORTED = ("numpy", "llama_cpp", "gguf", "llguidance", "httpx", "anyio.pytest_plugin", "pytest_timeout")
"""Imported before the forks, as far as they are installed, since each process would."""

_WITHOUT = ("cacheprovider", "schemathesis", "xdist", "unraisableexception")
_PYTEST = ("-x", "--tb=no", "--assert=plain", *(part for name in _WITHOUT for part in ("-p", f"no:{name}")))
_PROCESSES = 2
_MOST_BYTES = 8 * 2**30
"""Address space of a process: a mutant may loop for ever and keep what it makes."""
_PATIENCE, _SECONDS_MORE = 10, 5
"""A test fails that takes so many times what it took unchanged, and some seconds more."""

Change = tuple[ast.AST, str, object]
"""A node, one of its fields, and the field's other value."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change."""

    file: Path
    line: int
    was: str
    became: str
    index: int
    """Of its change."""
    function: tuple[int, int] | None
    """Lines of the function that it is in."""

    @property
    def code(self) -> CodeType:
        """The changed module."""
        module = ast.parse(self.file.read_text())
        node, field, value = list(changes(module))[self.index]
        setattr(node, field, value)
        return compile(ast.fix_missing_locations(module), str(self.file), "exec")

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.was}  ->  {self.became}"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The tests as they pass without a change, and the time of each."""

    seconds: dict[str, float]
    tests: dict[Path, dict[int, list[str]]]
    """Tests that run each line of a file."""

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that may notice ``mutant``, the quickest first."""
        lines = self.tests.get(mutant.file.resolve(), {})
        first, last = mutant.function or (0, max(lines, default=0))
        chosen = {test for line in range(first, last + 1) for test in lines.get(line, ()) if test in self.seconds}
        return sorted(chosen, key=lambda test: (self.seconds[test], test))


def changes(tree: ast.AST) -> Iterator[Change]:
    """Yield all changes of a module, in the order of its lines."""
    change = _change(tree)
    if change is not None:
        yield tree, *change
    for field, value in ast.iter_fields(tree):
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and field not in _TYPES:
                yield from changes(node)


def _change(node: ast.AST) -> tuple[str, object] | None:  # noqa: PLR0911
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        return "ops", [_COMPARISONS[type(node.ops[0])](), *node.ops[1:]]
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        return "op", _OPERATORS[type(node.op)]()
    if isinstance(node, ast.BoolOp):
        return "op", ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return "value", not node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return "value", node.value + 1
    if isinstance(node, (ast.If, ast.IfExp, ast.While)) and not isinstance(node.test, ast.Compare):
        return "test", ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.Name) and node.id in _FUNCTIONS:
        return "id", _FUNCTIONS[node.id]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return "value", ast.Constant(None)
    return None


def mutants(file: Path) -> Iterator[Mutant]:
    """Yield the mutants of a module."""
    module = ast.parse(file.read_text())
    for index, (node, field, value) in enumerate(list(changes(module))):
        line, usual, was = getattr(node, "lineno", 0), getattr(node, field), _first_line(node)
        setattr(node, field, value)
        became = _first_line(node)
        setattr(node, field, usual)
        yield Mutant(file, line, was, became, index, _function_at(module, line))


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]


def _function_at(module: ast.Module, line: int) -> tuple[int, int] | None:
    """Return the lines of the outermost function around ``line``."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0):
            return node.lineno, node.end_lineno or 0
    return None


class _Watch:
    """A plugin of pytest that notes how long each test takes and which lines it runs."""

    def __init__(self, files: list[Path]) -> None:
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[str(file.resolve()) for file in files]
        )
        self._seconds: dict[str, float] = {}

    def pytest_configure(self) -> None:
        _same_examples()
        self._coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def baseline(self) -> Baseline:
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {Path(file): data.contexts_by_lineno(file) for file in data.measured_files()}
        return Baseline(self._seconds, lines)


class _Chosen:
    """A plugin of pytest that runs the chosen tests, in their order, each with a time limit."""

    def __init__(self, tests: list[str], seconds: Mapping[str, float]) -> None:
        self._order = {test: place for place, test in enumerate(tests)}
        self._seconds = seconds

    def pytest_configure(self) -> None:
        _same_examples()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = (item for item in items if item.nodeid in self._order)
        items[:] = sorted(chosen, key=lambda item: self._order[item.nodeid])
        for item in items:
            limit = _PATIENCE * self._seconds[item.nodeid] + _SECONDS_MORE
            item.add_marker(pytest.mark.timeout(limit), append=False)


def _same_examples() -> None:
    """Have Hypothesis try the same examples each time; a failing one need not be made small."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=phases)
    hypothesis.settings.load_profile("mutants")


def _serve(file: Path, code: CodeType) -> None:
    """Have the module of ``file`` be ``code`` when it is imported."""
    usual, resolved = SourceFileLoader.get_code, file.resolve()

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        return code if Path(loader.path).resolve() == resolved else usual(loader, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def _fork(work: Callable[[], int]) -> int:
    """Start a silent process that does ``work`` and exits with its result; return its id."""
    if pid := os.fork():
        return pid
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        os._exit(work())
    finally:
        os._exit(1)


def _watch(files: list[Path], tests: list[str], folder: Path) -> Baseline:
    """Run the tests without a change. Exits where one fails."""

    def work() -> int:
        watch = _Watch(files)
        code = pytest.main([*_PYTEST, f"--basetemp={folder / 'base'}", *tests], plugins=[watch])
        (folder / "baseline").write_bytes(pickle.dumps(watch.baseline()))
        return int(code)

    if os.waitpid(_fork(work), 0)[1]:
        sys.exit(f"without a change the tests do not pass: pytest {' '.join(tests)}")
    return pickle.loads((folder / "baseline").read_bytes())  # type: ignore[no-any-return]


def _start(mutant: Mutant, baseline: Baseline, folder: Path) -> int:
    """Run the tests of ``mutant`` in a process that exits with 0 if it survives; return the process."""

    def work() -> int:
        tests = baseline.tests_of(mutant)
        if not tests:
            return 0
        _serve(mutant.file, mutant.code)
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        arguments = [*_PYTEST, f"--basetemp={folder / str(os.getpid())}", *files]
        return int(pytest.main(arguments, plugins=[_Chosen(tests, baseline.seconds)]))

    return _fork(work)


def survivors(chosen: list[Mutant], baseline: Baseline, folder: Path) -> list[Mutant]:
    """Return the mutants that survive; prints them as they come."""
    left, running, survived = list(reversed(chosen)), dict[int, Mutant](), []
    while left or running:
        if left and len(running) < _PROCESSES:
            mutant = left.pop()
            running[_start(mutant, baseline, folder)] = mutant
            continue
        pid, status = os.wait()
        mutant = running.pop(pid)
        if status == 0:
            survived.append(mutant)
            print(mutant, flush=True)
    return survived


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", type=Path, help="files or folders")
    parser.add_argument("--tests", nargs="+", default=["tests/unit/engine"])
    parser.add_argument("--sample", type=int, help="mutants, drawn at random; all, if not given")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    files = [file for path in given.modules for file in sorted(path.rglob("*.py")) or [path]]
    pool = [mutant for file in files for mutant in mutants(file)]
    chosen = pool if given.sample is None else random.Random(given.seed).sample(pool, min(given.sample, len(pool)))
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        survived = survivors(chosen, _watch(files, given.tests, folder), folder)
    left, all_of = Counter(m.file for m in survived), Counter(m.file for m in chosen)
    for file in files:
        print(f"{file}: {left[file]} of {all_of[file]}")
    print(f"{len(survived)} of {len(chosen)} mutants survived; there are {len(pool)}")


if __name__ == "__main__":
    main()
