"""Random conversations: ordinary ones, and ones whose texts are made of special tokens."""

import random
from collections.abc import Sequence

from glmserve.chat.prompts.messages import Message, Role

_WORDS = (
    "hello", "The", "quick", "brown", "fox", "don't", "I'm", "12345", "3.14", "你好", "今天天气很好，", "世界！",
    "日本語", "🙂", "👩‍👩‍👧", "é", "naïve", "\n", "\n\n", "\t", "  ", "    ", "def f(x):", "return x", "{",
    "}", "[", "]", "<", ">", "<b>", "</p>", "|", "a|b", "<|", "|>", "#", "```python\n", "```",
    "http://x.y/?a=b&c", "\\", '"', "'", "—", "…", "％", "\u3000",
)  # fmt: skip


def ordinary_conversation(numbers: random.Random) -> tuple[Message, ...]:
    """A conversation of texts that no special token is in."""
    return _conversation(numbers, lambda: _text(numbers, _WORDS))


def hostile_conversation(numbers: random.Random, names: Sequence[str]) -> tuple[Message, ...]:
    """A conversation whose texts are special tokens, parts of them, and what templates cut or join."""

    def text() -> str:
        name, other = numbers.choice(names), numbers.choice(names)
        cut = numbers.randrange(len(name) + 1)
        parts = [name, name[:cut], name[cut:], name[:cut] + other + name[cut:], f" {name} ", f"\n{name}\n"]
        parts += [f"{name[:cut]}\n", "</think>", "<think>", f"{name}</think>{other}", *_WORDS[:5], name.upper()]
        return "".join(numbers.choices(parts, k=numbers.randrange(1, 8)))

    return _conversation(numbers, text)


def _conversation(numbers: random.Random, text: "object") -> tuple[Message, ...]:
    assert callable(text)
    messages = [Message(Role.SYSTEM, text())] if numbers.random() < 0.5 else []
    for _ in range(numbers.randrange(4)):
        messages += [Message(Role.USER, text()), Message(Role.ASSISTANT, text())]
    return (*messages, Message(Role.USER, text()))


def _text(numbers: random.Random, words: Sequence[str]) -> str:
    return numbers.choice(("", " ")).join(numbers.choices(words, k=numbers.randrange(1, 30)))
