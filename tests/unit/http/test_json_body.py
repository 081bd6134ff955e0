"""How much work a JSON text is, told from its bytes."""

import json
from random import Random

import pytest

from glmserve.http.json_body import MOST_WORK, _units, _units_outside_strings, is_too_much


@pytest.mark.parametrize(
    ("item", "units"), [("0", 2), ('""', 2), ("null", 2), ("[]", 12), ("{}", 12), ('{"a":0}', 22), ('"\\n"', 3)]
)
def test_as_many_values_as_may_be_and_some_more(item: str, units: int) -> None:
    most = MOST_WORK // units
    assert not is_too_much(f"[{','.join([item] * (most - 10))}]".encode())
    assert is_too_much(f"[{','.join([item] * (most + 10))}]".encode())


def test_what_is_in_a_text_costs_nothing() -> None:
    assert not is_too_much(json.dumps({"a": "[{:," * 1_000_000 + '"\\'}).encode())
    assert is_too_much(json.dumps({"a": '"' * (MOST_WORK + 1)}).encode())  # each is an escape


def test_texts_and_escapes_that_go_on_in_the_next_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(1)
    for _ in range(300):
        text = json.dumps(["".join(random.choices('\\",[x', k=random.randrange(12))) for _ in range(9)]).encode()
        whole = sum(_units_outside_strings(text))
        monkeypatch.setattr("glmserve.http.json_body._CHUNK", random.randrange(1, 6))
        assert sum(_units_outside_strings(text)) == whole == 8 * 2 + 10 + text.count(b"\\")
        monkeypatch.undo()
    assert _units(b'[{"a":1},2]') == 10 + 10 + 10 + 2
