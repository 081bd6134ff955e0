"""Workloads of a benchmark: rounds of prompts for each client. Pure; the same seed gives the same prompts."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_WORDS = (
    "今天明天昨天上午下午我们他们公司学校公园城市天气时间朋友老师孩子电影音乐新闻报告项目产品"
    "开始结束记录查询设置提醒打开关闭播放导航觉得认为喜欢需要可以已经正在特别非常一些许多重要"
)
"""Words of two characters each."""

_OWN_CHARACTERS = 200
_LONG_CHARACTERS = 1200
"""About 800 tokens of ChatGLM2's vocabulary: a few-shot prompt as its users write them."""
_TURNS = 5
_CHATS = 4
_STREAMS = 4
_MANY = 64
_ONE_BY_ONE = 5
"""Answers to one client: noise of the machine is as large as a single answer of 64 tokens."""


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one question after another."""

    questions: tuple[str, ...]
    max_tokens: int
    """Of each answer, which is exactly as long."""
    history: bool = True
    """Whether each question carries the conversation before it."""
    late: bool = False
    """Arrives when the other clients are in the middle of their answers."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Clients that ask at the same time."""

    name: str
    clients: tuple[Client, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """Adjustable size of a workload."""

    clients: int = 8
    """Number of clients, for workloads that do not fix it."""
    stretch: float = 1.0
    """How long prompts are: a small vocabulary has more tokens to the character than ChatGLM2's."""


def _text(rng: random.Random, characters: float) -> str:
    words: list[str] = []
    while sum(map(len, words)) < characters:
        at = 2 * rng.randrange(len(_WORDS) // 2)
        words.append(_WORDS[at : at + 2] + rng.choice(("", "", "", "，", "。")))
    return "".join(words)


def single(rng: random.Random, size: Size) -> tuple[Workload, ...]:
    """One client, one prompt after another."""
    prompts = tuple(_text(rng, _OWN_CHARACTERS * size.stretch) for _ in range(_ONE_BY_ONE))
    return (Workload("single", (Client(prompts, 64, history=False),)),)


def own(rng: random.Random, size: Size) -> tuple[Workload, ...]:
    """Every client has a prompt of its own."""
    return (
        Workload(
            "own prompts", tuple(Client((_text(rng, _OWN_CHARACTERS * size.stretch),), 32) for _ in range(size.clients))
        ),
    )


def shared(rng: random.Random, size: Size) -> tuple[Workload, ...]:
    """A long prompt that all clients share but for its last line: first new to the server, then known."""
    start = _text(rng, _LONG_CHARACTERS * size.stretch)

    def everyone() -> tuple[Client, ...]:
        return tuple(Client((start + "\n" + _text(rng, 12 * size.stretch),), 16) for _ in range(size.clients))

    return Workload("shared prompt, new", everyone()), Workload("shared prompt, known", everyone())


def turns(rng: random.Random, size: Size) -> tuple[Workload, ...]:
    """Chats of several turns, each of which sends its whole history."""
    chats = (Client(tuple(_text(rng, 60 * size.stretch) for _ in range(_TURNS)), 16) for _ in range(_CHATS))
    return (Workload("turns", tuple(chats)),)


def arriving(rng: random.Random, size: Size) -> tuple[Workload, ...]:
    """A few clients are reading their answers when half of the clients come, each with a long prompt of its own."""
    early = tuple(Client((_text(rng, _OWN_CHARACTERS * size.stretch),), 96) for _ in range(_STREAMS))
    late = tuple(
        Client((_text(rng, _LONG_CHARACTERS * size.stretch),), 16, late=True) for _ in range(max(1, size.clients // 2))
    )
    return (Workload("long prompts arriving", early + late),)


def many(rng: random.Random, size: Size) -> tuple[Workload, ...]:
    """Many short questions: shows the server's own cost beside its model."""
    return (Workload("many", tuple(Client((_text(rng, 20 * size.stretch),), 64) for _ in range(_MANY))),)


WORKLOADS: Mapping[str, Callable[[random.Random, Size], tuple[Workload, ...]]] = MappingProxyType(
    {"single": single, "own": own, "shared": shared, "turns": turns, "arriving": arriving, "many": many}
)
