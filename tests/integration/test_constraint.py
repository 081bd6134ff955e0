"""Which tokens a grammar allows, on the vocabulary of the embedded model."""

from pathlib import Path

import numpy as np
import pytest

from glmserve.engine.grammar_backend import Constraint, ConstraintFactory, GrammarError
from glmserve.engine.llama.model_loading import load_vocabulary, stop_ids
from glmserve.engine.params import Grammar, GrammarKind

STOPS = frozenset({2, 1652, 1654})
"""As ChatGLM3 and GLM-4 have: several tokens that end an answer."""


@pytest.fixture(scope="module")
def factory(tiny_gguf: Path) -> ConstraintFactory:
    _, vocab = load_vocabulary(tiny_gguf)
    assert stop_ids(vocab) == {2}
    return ConstraintFactory(vocab, STOPS)


def _allowed(constraint: Constraint) -> set[int]:
    return {int(i) for i in np.flatnonzero(constraint.allowed())}


def _regex(factory: ConstraintFactory, source: str) -> Constraint:
    return factory.make(Grammar(GrammarKind.REGEX, source))


def test_an_answer_may_end_by_every_stop_token_where_it_is_complete_and_by_none_before(
    factory: ConstraintFactory,
) -> None:
    constraint = _regex(factory, "(ab)?")
    first = _allowed(constraint)
    assert first > STOPS
    constraint.accept(min(first - STOPS))
    assert not constraint.is_over or not _allowed(constraint) - STOPS


@pytest.mark.parametrize("stop", sorted(STOPS))
def test_a_stop_token_ends_it(factory: ConstraintFactory, stop: int) -> None:
    constraint = _regex(factory, "(ab)*")
    constraint.accept(stop)
    assert constraint.is_over
    assert _allowed(constraint) == STOPS


def test_copies_go_their_own_ways(factory: ConstraintFactory) -> None:
    constraint = _regex(factory, "[ab]c")
    copy = constraint.copy()
    before = _allowed(constraint)
    copy.accept(min(before))
    assert _allowed(constraint) == before
    assert _allowed(copy) != before


def test_a_token_that_is_not_allowed_is_an_error_of_this_constraint_alone(factory: ConstraintFactory) -> None:
    constraint = _regex(factory, "ab")
    wrong = next(i for i in range(10, 1600) if i not in _allowed(constraint))
    copy = constraint.copy()
    with pytest.raises(GrammarError):
        constraint.accept(wrong)
    with pytest.raises(GrammarError):
        constraint.allowed()
    assert _allowed(copy)


def test_signs_inside_texts_expressions_and_schemas_are_no_operators(factory: ConstraintFactory) -> None:
    source = 'start: "a&b" /[&~]/ %json {"const": "~&"}  // this & that'
    factory.make(Grammar(GrammarKind.LARK, source))
    for operator in ("A & B", "~A"):
        with pytest.raises(GrammarError, match="operators"):
            factory.make(Grammar(GrammarKind.LARK, f"start: C\nC: {operator}\nA: /a+/\nB: /[ab]+/"))
