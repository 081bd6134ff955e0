"""The size of what a reader opens: functions, files and folders."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("server", "convert", "compat", "models", "docs", "bench")
MOST_BODY_LINES = 30
MOST_FILE_LINES = 400
MOST_MODULES = 16
MOST_HIDDEN_LINES = 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """Of the folders; the programs that trained the embedded model are apart, as they run once."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [path for path in found if not {"training", "node_modules"} & set(path.parts)]


def last_line(function: Function) -> int:
    assert function.end_lineno is not None, "it was parsed from text"
    return function.end_lineno


def body_lines(function: Function) -> int:
    """Count the lines of a body without its docstring and without functions in it, which count by themselves."""
    first = function.body[0]
    start = function.body[1].lineno if ast.get_docstring(function) and len(function.body) > 1 else first.lineno
    inner = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    return last_line(function) - start + 1 - sum(last_line(one) - one.lineno + 1 for one in inner)


def test_the_count_of_lines_leaves_out_the_docstring_and_inner_functions() -> None:
    signature = ["def outer(", "    a: int,", ") -> int:"]
    body = ['    """Say', '    it."""', "    b = a", "", "    def inner():", "        return 1", "", "    return b"]
    text = "\n".join(signature + body)
    function = ast.parse(text).body[0]
    assert isinstance(function, Function)
    assert body_lines(function) == 4


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {node.name}": lines
        for path in sources(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, Function)
        and last_line(node) - node.lineno >= MOST_BODY_LINES  # its signature has a line at least
        and (lines := body_lines(node)) > MOST_BODY_LINES
    }
    assert not long, "cut them where a part has a name of its own"


def test_files_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_bytes().count(b"\n") for path in sources(*PRODUCT, "tests")}
    assert not {path: count for path, count in lines.items() if count > MOST_FILE_LINES}


def test_few_lines_of_the_tests_are_hidden_from_mypy() -> None:
    """A test whose values have types shows a name or a value that there is not before it runs."""
    hidden = re.compile(rf"#\s*type: {'ignore'}|\bcast\(")
    lines = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources("tests")
        for line in path.read_text("utf-8").splitlines()
        if hidden.search(line)
    ]
    assert len(lines) <= MOST_HIDDEN_LINES, "\n".join(lines)


def test_folders_have_few_modules() -> None:
    modules = Counter(str(path.parent.relative_to(ROOT)) for path in sources(*PRODUCT) if path.name != "__init__.py")
    assert not {folder: count for folder, count in modules.items() if count > MOST_MODULES}
