"""The mutants of a small module that its tests notice, and those that they do not."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MODULE = """\
def digits(number: int) -> int:
    count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


def is_long(text: str) -> bool:
    return len(text) > 80


def never_called() -> int:
    return 1
"""

TESTS = """\
from thing import digits, is_long


def test_digits_are_counted():
    assert [digits(number) for number in (9, 10, 1000)] == [1, 2, 4]


def test_a_long_text_is_one():
    assert is_long("a" * 100) and not is_long("a")
"""


def test_each_change_that_no_test_notices_is_named_with_its_own_line(tmp_path: Path) -> None:
    """The loop that a mutant never ends is noticed, and a function that no test runs is not."""
    module, tests = tmp_path / "thing.py", tmp_path / "test_thing.py"
    module.write_text(MODULE)
    tests.write_text(TESTS)
    command = [sys.executable, "-m", "bench.mutants", module.name, "--tests", tests.name]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    *found, of_file, total = done.stdout.splitlines()
    assert sorted(found) == [
        "thing.py:10: 80  ->  81",
        "thing.py:10: len(text) > 80  ->  len(text) >= 80",
        "thing.py:14: 1  ->  2",
    ], done.stderr
    assert (of_file, total) == ("thing.py: 3 of 10", "3 of 10 mutants survived; there are 10")
    assert module.read_text() == MODULE
