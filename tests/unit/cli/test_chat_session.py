import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from glmserve.cli.chat.session import Session, Terminal
from glmserve.cli.chat.slash_commands import COMMANDS, ChatConversation
from glmserve.cli.client import AnswerStats, SentMessage, ServerCallError

Line = str | BaseException | type[BaseException]
Step = Line | AnswerStats


@dataclass
class FakeAnswers:
    """Streams prepared answers, and notes what it was sent."""

    answers: list[list[Step]] = field(default_factory=list)
    sent: list[list[tuple[str, str]]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    closed: int = 0

    def model_names(self) -> tuple[str, ...]:
        return ("tiny", "large")

    def stream(
        self, model: str, messages: tuple[SentMessage, ...], sampling: Mapping[str, object]
    ) -> Generator[str | AnswerStats, None, None]:
        self.sent.append([(message.role, message.content) for message in messages])
        self.asked.append((model, dict(sampling)))
        try:
            for step in self.answers.pop(0) if self.answers else ["fine"]:
                if not isinstance(step, str | AnswerStats):
                    raise step
                yield step
        finally:
            self.closed += 1


def hold(client: FakeAnswers, *lines: Line, interactive: bool = False) -> tuple[bool, str]:
    """Run a session that is fed ``lines``; return its outcome and what it wrote."""
    script = iter(lines)
    written: list[str] = []

    def read_line(prompt: str) -> str:
        written.append(prompt)
        line: Line = next(script, EOFError)
        if not isinstance(line, str):
            raise line
        return line

    ok = Session(client, ChatConversation("tiny"), Terminal(read_line, written.append, interactive)).run()
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
    assert not hold(client, "/bogus")[0]
    assert client.sent == []


def test_help_names_every_command() -> None:
    text = " ".join(hold(FakeAnswers(), "/help")[1].split())
    assert all(command.name in text and command.help in text for command in COMMANDS)


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


def test_an_error_is_reported_and_its_question_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeAnswers([[ServerCallError("too long")], ["fine"]])
    ok, written = hold(client, "a", "b")
    assert (ok, written) == (False, "fine\n")
    assert capsys.readouterr().err == "Error: too long\n"
    assert client.sent[1] == [("user", "b")]


def test_only_a_terminal_gets_a_prompt() -> None:
    assert hold(FakeAnswers(), "a\\", "b", interactive=True)[1] == "> … fine\n> "
    assert hold(FakeAnswers(), "a\\", "b")[1] == "fine\n"


def test_three_quotes_hold_a_message_of_several_lines_as_it_is() -> None:
    client = FakeAnswers()
    hold(client, '"""one', "", "two\\", '"""', '"""all at once"""', '"""', "open at the end")
    assert [sent[-1][1] for sent in client.sent] == ["one\n\ntwo\\", "all at once", "open at the end"]


def test_an_editor_may_give_a_message_of_several_lines_at_once() -> None:
    client = FakeAnswers()
    hold(client, "one\\\n  two\n")
    assert client.sent[-1][-1] == ("user", "one\\\n  two")


def test_regenerate_asks_the_last_question_again_without_its_answer() -> None:
    client = FakeAnswers([["one"], ["two"], ["three"], ["four"]])
    hold(client, "a", "b", "/regenerate", "c")
    assert client.sent[2] == client.sent[1] == [("user", "a"), ("assistant", "one"), ("user", "b")]
    assert client.sent[3][:4] == [*client.sent[1], ("assistant", "three")]


def test_regenerate_that_fails_keeps_the_answer_there_was(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeAnswers([["one"], [ServerCallError("busy")], ["three"]])
    hold(client, "a", "/regenerate", "b")
    assert client.sent[-1] == [("user", "a"), ("assistant", "one"), ("user", "b")]
    assert hold(client, "/regenerate") == (False, "")
    assert "nothing was asked yet" in capsys.readouterr().err


def test_what_is_set_goes_along_until_it_is_taken_back() -> None:
    client = FakeAnswers()
    hold(client, "/set temperature 0.2", "/set max_tokens=9", "a", "/set temperature", "b")
    assert client.asked == [("tiny", {"temperature": 0.2, "max_tokens": 9}), ("tiny", {"max_tokens": 9})]
    assert "temperature 0.2\ntop_p as the server does" in hold(client, "/set temperature 0.2", "/set")[1]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/set temperature warm", "temperature is a number, not warm"),
        ("/set seed 1.5", "seed is a whole number, not 1.5"),
        ("/set colour red", "colour cannot be set; these can: temperature"),
        ("/model huge", "there is no model huge; the models are tiny, large"),
        ("/sysem x", "is /system meant?"),
        ("/save", "/save needs a file name"),
        ("/save -", "/save needs a file name"),
        ("/load /dev/zero", "/dev/zero is not a conversation that /save wrote"),
        ("/load /nowhere/at/all", "/nowhere/at/all: cannot be read (No such file"),
        ("/save /nowhere/at/all", "/nowhere/at is not a folder; create it first"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not hold(FakeAnswers(), line)[0]
    assert told in capsys.readouterr().err


def test_another_model_goes_on_with_the_conversation() -> None:
    client = FakeAnswers()
    assert "* tiny\n  large\n" in hold(client, "/model", "a", "/model large", "b")[1]
    assert [model for model, _ in client.asked] == ["tiny", "large"]
    assert len(client.sent[1]) == 3


def test_a_conversation_is_saved_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "talk.json"
    hold(FakeAnswers(), "/system be brief", "/set seed 3", "你好", f"/save {file}")
    client = FakeAnswers()
    hold(client, f"/load {file}", "b")
    assert client.sent == [[("system", "be brief"), ("user", "你好"), ("assistant", "fine"), ("user", "b")]]
    assert client.asked == [("tiny", {"seed": 3})]
    file.write_text('{"messages": 3}')
    hold(client, f"/load {file}")
    assert "is not a conversation that /save wrote" in capsys.readouterr().err


def test_figures_are_shown_on_demand_and_not_into_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    figures = AnswerStats(812, 780, 11, 0.5, 2.0)
    client = FakeAnswers([["fine", figures], ["fine", figures], ["fine", figures]])
    _, written = hold(client, "a", "/stats", "b", "/stats", "c")
    line = "11 tokens, 5.0 tokens/s, first after 0.50 s, prompt 812 tokens, 780 cached"
    assert written == f"fine\n{line}\nfine\nfine\n"
    assert capsys.readouterr().err == f"[{line}]\n"


def test_only_a_conversation_is_replaced_by_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It used to write over anything, through links and into devices too."""
    talk, notes, link, pipe = (tmp_path / name for name in ("talk.json", "notes.txt", "link", "pipe"))
    notes.write_text("mine")
    link.symlink_to(notes)
    os.mkfifo(pipe)
    hold(FakeAnswers(), "你好", *(f"/save {file}" for file in (talk, talk, notes, link, pipe, tmp_path)))
    said = capsys.readouterr().err
    for line in (
        "notes.txt exists and is not a conversation",
        "link exists and is no",
        "pipe is a named pipe",
        "is a folder",
    ):
        assert line in said, said
    assert notes.read_text() == "mine"
    assert pipe.is_fifo()
    assert "你好" in talk.read_text("utf-8")
