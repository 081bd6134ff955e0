"""One chat template, ready to render conversations. Pure; the calling process bounds its time and memory."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from jinja2 import TemplateError

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.prompts.template.constants import strings
from glmserve.chat.prompts.template.environment import (
    THINKING,
    RaisedByTemplate,
    TemplateRole,
    can_think,
    make_environment,
    mark,
    parse,
    thinks_unless_told,
)
from glmserve.chat.prompts.template.marks import Marks, Piece, Special, TemplateFault

MAX_CHARACTERS = 1 << 20
"""Of a template; the longest known ones have a fortieth of it."""
MAX_RENDERED = 1 << 24
"""Characters of a rendered prompt: more than any context holds."""
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A chat template and the special tokens that it may write."""

    text: str
    specials: tuple[str, ...] = ()
    """Names of the vocabulary's special tokens."""
    bos: str = ""
    """Name of the token that begins a text; empty where the vocabulary has none."""
    eos: str = ""
    with_tools: str = ""
    """The template of conversations with tools, where it is another one."""


@dataclass(frozen=True, slots=True)
class TemplateInput:
    """The variables of a rendering, apart from the special tokens; all of it as JSON has it."""

    messages: tuple[Mapping[str, object], ...]
    tools: tuple[Mapping[str, object], ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    """Further variables, such as ``enable_thinking``."""
    asks: bool = True
    """Whether the prompt ends where an answer begins (``add_generation_prompt``)."""

    def packed(self) -> bytes:
        """Return it for another process. Raises UnicodeEncodeError where a text has lone surrogates."""
        parts = [self.messages, self.tools, self.options, self.asks]
        return json.dumps(parts, ensure_ascii=False, default=dict).encode("utf-8")

    @classmethod
    def unpacked(cls, data: bytes) -> "TemplateInput":
        """Return the input that was packed."""
        messages, tools, options, asks = json.loads(data)
        return cls(tuple(messages), tuple(tools), options, asks)


class Renderer(Protocol):
    """Renders one template."""

    def render(self, given: TemplateInput) -> tuple[Piece, ...]:
        """Return the prompt. Raises PromptError where the template cannot make one."""


class Template:
    """A compiled template."""

    def __init__(self, source: TemplateSource, now: Callable[[], datetime]) -> None:
        """Compile ``source``. Raises TemplateFault."""
        if len(source.text) > MAX_CHARACTERS:
            raise TemplateFault(f"it has {len(source.text)} characters, more than {MAX_CHARACTERS}")
        self._now = now
        environment = make_environment(now)
        try:
            tree = parse(environment, source.text)
            self._marks = Marks(f"{source.text}\n{strings(tree)}", source.specials, (source.bos, source.eos))
            tree = mark(environment, tree, self._marks)
            thinks = can_think(source.text) and thinks_unless_told(tree)
            self._assumed: dict[str, object] = {THINKING: True} if thinks else {}
            self._template = environment.from_string(tree)
        except (TemplateError, SyntaxError, RecursionError, ValueError) as error:
            raise error if isinstance(error, TemplateFault) else TemplateFault(_shown(error)) from None
        self._with_tools = None
        if source.with_tools:
            self._with_tools = Template(replace(source, text=source.with_tools, with_tools=""), now)
        self._tokens = {"bos_token": self._marks.of(source.bos), "eos_token": self._marks.of(source.eos)}

    def render(self, given: TemplateInput) -> tuple[Piece, ...]:
        """Return the prompt. Raises PromptError where the template fails on, or rejects, the conversation."""
        if given.tools and self._with_tools is not None:
            return self._with_tools.render(given)
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(self._variables(given)):
                parts.append(part)
                size += len(part)
                if size > MAX_RENDERED:
                    raise PromptError(f"the chat template makes more than {MAX_RENDERED} characters of it")
            return self._marks.pieces("".join(parts))
        except PromptError:
            raise
        except RaisedByTemplate as rejection:
            raise PromptError(f"the model's chat template rejects it: {_shown(rejection)}") from None
        except MemoryError:
            raise PromptError("the model's chat template needs too much memory for it") from None
        except Exception as error:  # whatever Python raises inside of a template
            raise PromptError(f"the model's chat template cannot render it ({_shown(error)})") from None

    def _variables(self, given: TemplateInput) -> Mapping[str, object]:
        found = {
            "date_string": self._now().strftime("%d %b %Y"),  # what Llama 3 is told of the day
            "datetime": self._now().strftime("%b %d %Y"),  # firefunction, which has its tools as text besides
            "functions": json.dumps(given.tools, ensure_ascii=False, indent=2) if given.tools else "",
            **self._assumed,
            **given.options,
            "messages": [_with_role(message) for message in given.messages],
            "add_generation_prompt": given.asks,
            **self._tokens,
        }
        return {**found, "tools": list(given.tools)} if given.tools else found


def packed_pieces(pieces: Sequence[Piece]) -> list[list[str]]:
    """Return pieces as JSON has them."""
    return [["special", piece.name] if isinstance(piece, Special) else ["text", piece] for piece in pieces]


def unpacked_pieces(packed: Sequence[Sequence[str]]) -> tuple[Piece, ...]:
    """Return the pieces that were packed."""
    return tuple(Special(text) if kind == "special" else text for kind, text in packed)


def _with_role(message: Mapping[str, object]) -> dict[str, object]:
    return {**message, "role": TemplateRole(message["role"])}


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
