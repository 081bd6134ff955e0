from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import pytest

from server.commands.chat_client import ChatError, ChatMessage
from server.commands.chat_session import Session, Terminal

Step = str | BaseException | type[BaseException]


@dataclass
class FakeAnswers:
    """Streams prepared answers, and notes what it was sent."""

    answers: list[list[Step]] = field(default_factory=list)
    sent: list[list[tuple[str, str]]] = field(default_factory=list)
    closed: int = 0

    def stream(self, model: str, messages: tuple[ChatMessage, ...]) -> Generator[str, None, None]:
        self.sent.append([(message.role, message.content) for message in messages])
        try:
            for step in self.answers.pop(0) if self.answers else ["fine"]:
                if not isinstance(step, str):
                    raise step
                yield step
        finally:
            self.closed += 1


def hold(client: FakeAnswers, *lines: Step, interactive: bool = False) -> tuple[bool, str]:
    """Run a session that is fed ``lines``; return its outcome and what it wrote."""
    script: Iterator[Step] = iter(lines)
    written: list[str] = []

    def read_line(prompt: str) -> str:
        written.append(prompt)
        line = next(script, EOFError)
        if not isinstance(line, str):
            raise line
        return line

    ok = Session(client, "tiny", Terminal(read_line, written.append, interactive)).run()
    return ok, "".join(written)


def test_answers_are_written_as_they_come_and_remembered() -> None:
    client = FakeAnswers([["He", "llo"], ["again"]])
    assert hold(client, "hi", "more") == (True, "Hello\nagain\n")
    assert client.sent == [
        [("user", "hi")],
        [("user", "hi"), ("assistant", "Hello"), ("user", "more")],
    ]


def test_clear_forgets_the_conversation_but_not_the_system_text() -> None:
    client = FakeAnswers()
    hold(client, "/system be brief", "a", "/clear", "b")
    assert client.sent[-1] == [("system", "be brief"), ("user", "b")]


def test_system_starts_anew_and_is_taken_back_by_an_empty_one() -> None:
    client = FakeAnswers()
    hold(client, "a", "/system be brief", "b", "/system", "c")
    assert client.sent[1:] == [[("system", "be brief"), ("user", "b")], [("user", "c")]]


def test_exit_leaves_what_follows_unread() -> None:
    client = FakeAnswers()
    hold(client, "/exit", "a")
    assert client.sent == []


def test_an_unknown_command_is_not_sent() -> None:
    client = FakeAnswers()
    assert "/bogus is not a command" in hold(client, "/bogus")[1]
    assert client.sent == []


def test_help_names_every_command() -> None:
    text = hold(FakeAnswers(), "/help")[1]
    assert all(name in text for name in ("/system", "/clear", "/exit", "Ctrl-C"))


def test_a_backslash_goes_on_in_the_next_line() -> None:
    client = FakeAnswers()
    hold(client, "one\\", "two", "", "three\\")
    assert [sent[-1] for sent in client.sent] == [("user", "one\ntwo"), ("user", "three")]


def test_ctrl_c_stops_the_answer_and_keeps_what_there_is() -> None:
    client = FakeAnswers([["par", KeyboardInterrupt], ["fine"]])
    assert hold(client, "a", "b") == (True, "par [stopped]\nfine\n")
    assert client.sent[1][:2] == [("user", "a"), ("assistant", "par")]
    assert client.closed == 2


def test_ctrl_c_at_the_prompt_only_says_how_to_leave() -> None:
    client = FakeAnswers()
    assert "Ctrl-D" in hold(client, "half\\", KeyboardInterrupt, "a")[1]
    assert client.sent == [[("user", "a")]]


def test_an_error_is_said_and_its_question_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeAnswers([[ChatError("too long")], ["fine"]])
    ok, written = hold(client, "a", "b")
    assert (ok, written) == (False, "fine\n")
    assert capsys.readouterr().err == "Error: too long\n"
    assert client.sent[1] == [("user", "b")]


def test_only_a_terminal_gets_a_prompt() -> None:
    assert hold(FakeAnswers(), "a\\", "b", interactive=True)[1] == "> … fine\n> "
    assert hold(FakeAnswers(), "a\\", "b")[1] == "fine\n"
