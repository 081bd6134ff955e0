"""A Ctrl-C in the chat stops the answer, wherever Python happens to be when it comes."""

import contextlib
import os
import signal
from collections.abc import Generator, Mapping

from glmserve.cli.chat.session import Session, Terminal
from glmserve.cli.chat.slash_commands import ChatConversation
from glmserve.cli.client import SentMessage


class Swallowing:
    """Answers for ever, and loses the exception of a Ctrl-C as a finaliser does."""

    def model_names(self) -> tuple[str, ...]:
        return ("tiny",)

    def stream(
        self, model: str, messages: tuple[SentMessage, ...], sampling: Mapping[str, object]
    ) -> Generator[str, None, None]:
        yield "one "
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        while True:
            yield "more "


def test_an_interrupt_that_a_finaliser_swallows_still_stops_the_answer() -> None:
    """It once did not: the answer went on to its token limit."""
    lines = iter(["hello"])
    written: list[str] = []

    def read(_prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    handler = signal.getsignal(signal.SIGINT)
    assert Session(Swallowing(), ChatConversation("model"), Terminal(read, written.append, is_interactive=True)).run()
    assert "".join(written) == "one more  [stopped]\n"
    assert signal.getsignal(signal.SIGINT) is handler
