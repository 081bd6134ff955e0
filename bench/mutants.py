"""Change one thing in a module, run the unit tests, and list the changes that no test notices.

    python -m bench.mutants server/engine/scheduler server/engine/kv_cache --tests tests/unit/engine --sample 100

Works in a copy of the tree. Each line is a mutant that survived: file, line, and the changed code.
"""

import argparse
import ast
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:schemathesis")
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}

Change = tuple[ast.AST, str, object]
"""A node, one of its fields, and the field's other value."""


def changes(tree: ast.Module) -> Iterator[Change]:
    """Yield all changes of a module."""
    for node in ast.walk(tree):
        change = _change(node)
        if change is not None:
            yield node, *change


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
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        return "test", ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.Name) and node.id in _FUNCTIONS:
        return "id", _FUNCTIONS[node.id]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return "value", ast.Constant(None)
    return None


def _mutant(source: str, index: int) -> tuple[int, str, str]:
    """Return the line of a mutant, the changed code and the whole module."""
    tree = ast.parse(source)
    node, field, value = list(changes(tree))[index]
    setattr(node, field, value)
    ast.fix_missing_locations(tree)
    return getattr(node, "lineno", 0), ast.unparse(node).splitlines()[0], ast.unparse(tree)


def _passes(tree: Path, tests: list[str], seconds: float) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", *_WITHOUT, "--assert=plain", *tests]
    environment = {"PYTHONPATH": f"{tree / 'src'}:{tree}", "PATH": "/usr/bin:/bin"}
    try:
        return (
            subprocess.run(
                command, cwd=tree, env=environment, capture_output=True, timeout=seconds, check=False
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", type=Path, help="files or folders")
    parser.add_argument("--tests", nargs="+", default=["tests/unit/engine"])
    parser.add_argument("--sample", type=int, default=100, help="mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds of one run; a longer one is noticed")
    parser.add_argument("--bound", type=float, default=3600.0, help="seconds after which no other mutant is tried")
    given = parser.parse_args()
    files = [file for path in given.modules for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    pool = [(file, index) for file in files for index, _ in enumerate(changes(ast.parse(file.read_text())))]
    sample = random.Random(given.seed).sample(pool, min(given.sample, len(pool)))
    tried = survived = 0
    end = time.monotonic() + given.bound
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        shutil.copytree(".", tree, symlinks=True, ignore=shutil.ignore_patterns(".venv*", ".git", "node_modules"))
        if not _passes(tree, given.tests, given.timeout):
            sys.exit(f"without a change the tests fail, or take more than {given.timeout:g} s")
        for file, index in itertools.takewhile(lambda _: time.monotonic() < end, sample):
            tried += 1
            source = file.read_text()
            line, code, mutant = _mutant(source, index)
            (tree / file).write_text(mutant)
            if _passes(tree, given.tests, given.timeout):
                survived += 1
                print(f"{file}:{line}: {code}", flush=True)
            (tree / file).write_text(source)
    print(f"{survived} of {tried} mutants survived; there are {len(pool)}")


if __name__ == "__main__":
    main()
