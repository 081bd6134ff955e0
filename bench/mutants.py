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
import gc
import importlib
import itertools
import os
import pickle
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType

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
_LEFT_OUT = {"annotation", "returns", "decorator_list"}
"""Fields of nodes that no test should have to notice."""

_IMPORTED = ("numpy", "llama_cpp", "gguf", "llguidance", "httpx", "anyio.pytest_plugin", "pytest_timeout")
"""Imported before the forks, as far as they are installed, since each process would."""

_WITHOUT = ("cacheprovider", "schemathesis", "xdist", "unraisableexception", "hypothesispytest")
_PYTEST = (
    "-xsqqq",
    "--tb=no",
    "--no-header",
    "--no-summary",
    "--assert=plain",
    *(part for name in _WITHOUT for part in ("-p", f"no:{name}")),
)
_PROCESSES = 2
_EXAMPLES = 5
"""Hypothesis tries as many in each test, where it asks for more."""
_MOST_BYTES = 8 * 2**30
"""Address space of a process: a mutant may loop for ever and keep what it makes."""
_PATIENCE, _SECONDS_MORE = 10, 5
"""A test fails that takes 10 times its unchanged time, and 5 seconds more."""

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
    """Lines of the body of the function that it is in."""

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
            if isinstance(node, ast.AST) and field not in _LEFT_OUT:
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
    """Return the lines of the body of the outermost function around ``line``."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, last = node.body[0].lineno, node.end_lineno or 0
            if first <= line <= last:
                return first, last
    return None


class _Chosen:
    """A plugin of pytest that runs the tests of a mutant in their order, each with a time limit."""

    def __init__(self, tests: list[str], seconds: Mapping[str, float]) -> None:
        self._tests = tests
        self._seconds = seconds

    def pytest_configure(self) -> None:
        _same_examples()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        _fewer_examples(items)
        items[:] = _limited({item.nodeid: item for item in items}, self._tests, self._seconds)


class _Collected:
    """A plugin of pytest that runs the baseline and all mutants of functions in forks, once the tests are collected."""

    def __init__(self, chosen: list[Mutant], files: list[Path], folder: Path) -> None:
        self._chosen = chosen
        self._files = {file.resolve() for file in files}
        self._folder = folder

    def pytest_configure(self) -> None:
        _same_examples()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        _fewer_examples(session.items)
        if os.waitpid(_fork(lambda: self._watch(session)), 0)[1]:
            return True
        baseline = pickle.loads((self._folder / "baseline").read_bytes())
        names = {file.name for file in self._files}
        functions = [one for one in gc.get_objects() if isinstance(one, FunctionType)]
        functions = [one for one in functions if Path(one.__code__.co_filename).name in names]
        items = {item.nodeid: item for item in session.items}

        def start(mutant: Mutant) -> int:
            tests = baseline.tests_of(mutant)
            return _fork(
                lambda: _replaced(mutant, functions) and _run(session, _limited(items, tests, baseline.seconds))
            )

        survived = survivors([mutant for mutant in self._chosen if mutant.function], start)
        (self._folder / "survived").write_bytes(pickle.dumps((baseline, survived)))
        return True

    def _watch(self, session: pytest.Session) -> int:
        """Run the tests without a change, and note the time of each and the lines that it runs."""
        watch = coverage.Coverage(data_file=None, config_file=False, include=[str(file) for file in self._files])
        watch.start()
        seconds = {}
        for item in session.items:
            watch.switch_context(item.nodeid)
            started = time.monotonic()
            _run(session, [item])
            seconds[item.nodeid] = time.monotonic() - started
        watch.stop()
        data = watch.get_data()
        lines = {Path(file): data.contexts_by_lineno(file) for file in data.measured_files()}
        (self._folder / "baseline").write_bytes(pickle.dumps(Baseline(seconds, lines)))
        return session.testsfailed


def _run(session: pytest.Session, items: list[pytest.Item]) -> int:
    """Run ``items`` until one fails; return the number of failures."""
    for item, following in itertools.zip_longest(items, items[1:]):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            break
    return session.testsfailed


def _limited(items: Mapping[str, pytest.Item], tests: list[str], seconds: Mapping[str, float]) -> list[pytest.Item]:
    """Return ``tests`` with time limits."""
    chosen = [items[test] for test in tests]
    for item in chosen:
        item.add_marker(pytest.mark.timeout(_PATIENCE * seconds[item.nodeid] + _SECONDS_MORE), append=False)
    return chosen


def _replaced(mutant: Mutant, functions: list[FunctionType]) -> bool:
    """Give the functions of the module the code of ``mutant``."""
    todo, codes = [mutant.code], dict[tuple[str, int], CodeType]()
    while todo:
        code = todo.pop()
        codes[code.co_name, code.co_firstlineno] = code
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    for function in functions:
        old = function.__code__
        if Path(old.co_filename).resolve() == mutant.file.resolve():
            function.__code__ = codes[old.co_name, old.co_firstlineno]
    return True


def _same_examples() -> None:
    """Have Hypothesis try the same examples each time; a failing one need not be made small."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=phases)
    hypothesis.settings.load_profile("mutants")


def _fewer_examples(items: list[pytest.Item]) -> None:
    for test in (getattr(item, "obj", None) for item in items):
        if (own := getattr(test, "_hypothesis_internal_use_settings", None)) is not None:
            fewer = hypothesis.settings(own, max_examples=min(own.max_examples, _EXAMPLES))
            setattr(test, "_hypothesis_internal_use_settings", fewer)  # noqa: B010


def _serve(file: Path, code: CodeType) -> None:
    """Have the module of ``file`` be ``code`` when it is imported."""
    usual, resolved = SourceFileLoader.get_code, file.resolve()

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        return code if Path(loader.path).resolve() == resolved else usual(loader, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def _fork(work: Callable[[], int]) -> int:
    """Start a silent process that does ``work`` and exits with 1 if its result is not 0; return its id."""
    if pid := os.fork():
        return pid
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
            failed = work()
        os._exit(failed != 0)
    finally:
        os._exit(1)


def _import_anew(mutant: Mutant, baseline: Baseline) -> int:
    """Import the mutant and run its tests."""
    tests = baseline.tests_of(mutant)
    _serve(mutant.file, mutant.code)
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return int(pytest.main([*_PYTEST, *files], plugins=[_Chosen(tests, baseline.seconds)])) if tests else 0


def survivors(chosen: list[Mutant], start: Callable[[Mutant], int]) -> list[Mutant]:
    """Return the mutants whose process exits with 0; prints them as they come."""
    left, running, survived = list(reversed(chosen)), dict[int, Mutant](), []
    while left or running:
        if left and len(running) < _PROCESSES:
            mutant = left.pop()
            running[start(mutant)] = mutant
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
        if not (pid := os.fork()):
            os._exit(pytest.main([*_PYTEST, *given.tests], plugins=[_Collected(chosen, files, folder)]))
        os.waitpid(pid, 0)
        if not (folder / "survived").exists():
            sys.exit(f"without a change the tests do not pass: pytest {' '.join(given.tests)}")
        baseline, survived = pickle.loads((folder / "survived").read_bytes())
    outside = [mutant for mutant in chosen if not mutant.function]
    survived += survivors(outside, lambda mutant: _fork(lambda: _import_anew(mutant, baseline)))
    left, all_of = Counter(m.file for m in survived), Counter(m.file for m in chosen)
    for file in files:
        print(f"{file}: {left[file]} of {all_of[file]}")
    print(f"{len(survived)} of {len(chosen)} mutants survived; there are {len(pool)}")


if __name__ == "__main__":
    main()
