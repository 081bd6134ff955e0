"""Who is hung up on where more connect than may: never one that is being answered."""

from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.http.framing.uvicorn_protocol import Connections


class Line:
    """A connection that knows whether it was closed."""

    def __init__(self) -> None:
        self.is_open = True

    def hang_up(self) -> None:
        self.is_open = False


def test_the_connection_idle_longest_is_closed_first() -> None:
    book = Connections(3)
    first, second, third, fourth, fifth = (Line() for _ in range(5))
    assert all(book.enter(line) for line in (first, second, third))
    book.now_idle(first)  # answered just now
    assert book.enter(fourth)
    assert [line.is_open for line in (first, second, third)] == [True, False, True]
    for line in (first, third, fourth):
        book.now_busy(line)
    assert not book.enter(fifth)
    book.leave(third)
    assert book.enter(fifth)


EVENTS = ["enter", "now_idle", "now_busy", "leave"]


@settings(max_examples=200, deadline=None)
@given(
    most=st.integers(1, 5),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 9)), max_size=60),
)
def test_the_limit_holds_and_no_busy_connection_is_closed(most: int, events: list[tuple[str, int]]) -> None:
    book, answering = Connections(most), set[int]()
    lines: dict[int, Line] = {}
    for event, number in events:
        line = lines.get(number)
        if event == "enter" and line is None:
            line = Line()
            if book.enter(line):
                lines[number] = line
            else:
                assert len(answering) == most
        elif line is not None and event != "enter":
            getattr(book, event)(line)
            answering = answering - {number} | ({number} if event == "now_busy" else set())
            if event == "leave":
                del lines[number]
        assert all(lines[one].is_open for one in answering)
        lines = {number: line for number, line in lines.items() if line.is_open}
        assert len(book) == len(lines) <= most
