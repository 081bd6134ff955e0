"""How often a process is started again: tries in a row, delays between them, and what begins the count anew."""

from glmserve.engine.client.restarts import Restarts


def test_tries_are_bounded_and_their_delays_grow() -> None:
    restarts = Restarts(8)
    restarts.loaded()
    assert [restarts.next_delay() for _ in range(9)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, None]
    assert restarts.total == 8
    assert restarts.in_words("it died") == "it died, 9 times in a row"


def test_an_answer_begins_the_count_anew() -> None:
    restarts = Restarts(2)
    restarts.loaded()
    assert [restarts.next_delay(), restarts.next_delay()] == [0.0, 0.5]
    restarts.answered()
    assert restarts.next_delay() == 0.0


def test_a_model_that_never_loaded_is_not_tried_again_but_a_process_that_was_not_started_is() -> None:
    restarts = Restarts(2)
    assert restarts.next_delay() is None
    assert restarts.in_words("it died") == "it died"
    assert [restarts.next_delay(anyway=True) for _ in range(3)] == [0.0, 0.5, None]


def test_a_stopped_engine_begins_as_a_new_one() -> None:
    restarts = Restarts(1)
    restarts.loaded()
    assert restarts.next_delay() == 0.0
    restarts.reset()
    assert restarts.next_delay() is None
    assert restarts.next_delay(anyway=True) == 0.0
