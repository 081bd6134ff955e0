"""Conversations: greetings, names to remember, counting, questions out of reach; in one to four rounds."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from glmserve.models.tiny.training.phrases import (
    CHINESE,
    CHINESE_OTHERS,
    CHINESE_QUESTIONS,
    CHINESE_TOPICS,
    CHINESE_UNKNOWN,
    ENGLISH,
    ENGLISH_OTHERS,
    ENGLISH_QUESTIONS,
    ENGLISH_TOPICS,
    ENGLISH_UNKNOWN,
    SYSTEM_TEXTS,
    Group,
)
from glmserve.models.tiny.training.slots import GIVEN, NICKNAMES, SURNAMES

ENGLISH_NAMES = (
    "Tom",
    "Lucy",
    "Jack",
    "Amy",
    "Anna",
    "Bob",
    "Alice",
    "Peter",
    "Mary",
    "David",
    "Kate",
    "Li Lei",
    "Max",
)
TELLING = ("我叫{}", "我是{}", "我的名字是{}", "你好，我叫{}", "你好，我是{}", "记住，我叫{}")
TELLING_ENGLISH = ("My name is {}", "I am {}", "Hello, my name is {}", "Hi, I'm {}", "my name is {}.", "Hi, I am {}.")
ASKING = (
    "我叫什么",
    "我叫什么名字",
    "我是谁",
    "你还记得我的名字吗",
    "我叫什么？",
    "你知道我是谁吗",
    "你记得我叫什么吗",
)
ASKING_ENGLISH = ("what is my name", "What is my name?", "What's my name?", "who am I", "Do you remember my name?")


@dataclass(frozen=True)
class Chat:
    """The finished rounds, the question of the last one, and its answer."""

    turns: tuple[tuple[str, str], ...]
    query: str
    answer: str


class ChatSource:
    """Makes conversations from phrases; ``texts`` are any sentences, which count as questions out of reach."""

    def __init__(self, seed: int, texts: list[str], other_round: Callable[[], tuple[str, str]]) -> None:
        """Start from ``seed``; ``other_round`` makes a round of another task."""
        self._rng = random.Random(seed)
        self._texts = texts
        self._other_round = other_round

    def make(self) -> Chat:
        """Make one conversation."""
        rounds = [self._round() for _ in range(self._rng.choices((1, 2, 3, 4), (50, 25, 17, 8))[0])]
        if self._rng.random() < 0.15:
            rounds = self._name_rounds(rounds)
        if self._rng.random() < 0.25:
            question, answer = rounds[0]
            rounds[0] = (f"{self._system_text()}\n\n{question}", answer)
        query, answer = rounds.pop()
        return Chat(tuple(rounds), query, answer)

    def _round(self) -> tuple[str, str]:
        makers: dict[Callable[[], tuple[str, str]], int] = {
            lambda: self._known(CHINESE): 38,
            lambda: self._known(ENGLISH): 20,
            lambda: (self._vary(self._chinese_question()), self._rng.choice(CHINESE_UNKNOWN)): 20,
            lambda: (self._vary(self._english_question()), self._rng.choice(ENGLISH_UNKNOWN)): 12,
            self._counting: 3,
            self._other_round: 4,
            lambda: self._greeting_by_name()[:2]: 3,
        }
        [make] = self._rng.choices(tuple(makers), tuple(makers.values()))
        return make()

    def _known(self, groups: tuple[Group, ...]) -> tuple[str, str]:
        """Draw from the groups; what people say most stands first, among the groups and within each."""
        group = self._rng.choice(groups[:2] if self._rng.random() < 0.3 else groups)
        questions = group.questions[:4] if self._rng.random() < 0.4 else group.questions
        return self._vary(self._rng.choice(questions)), self._rng.choice(group.answers)

    def _chinese_question(self) -> str:
        roll = self._rng.random()
        if roll < 0.25:
            return self._rng.choice(CHINESE_OTHERS)
        if roll < 0.75:
            return self._compose(CHINESE_QUESTIONS, CHINESE_TOPICS)
        text = self._rng.choice(self._texts)
        start = self._rng.randrange(max(1, len(text) - 6))
        return text[start : start + self._rng.randint(5, 30)].strip() or text

    def _english_question(self) -> str:
        if self._rng.random() < 0.3:
            return self._rng.choice(ENGLISH_OTHERS)
        if self._rng.random() < 0.15:
            letters = "etaoinshrdlucmfwypvbgk"
            words = ["".join(self._rng.choices(letters, k=self._rng.randint(2, 8))) for _ in range(5)]
            return " ".join(words)
        return self._compose(ENGLISH_QUESTIONS, ENGLISH_TOPICS)

    def _compose(self, forms: tuple[str, ...], topics: tuple[str, ...]) -> str:
        form = self._rng.choice(forms)
        while "{}" in form:
            form = form.replace("{}", self._rng.choice(topics), 1)
        return form

    def _counting(self) -> tuple[str, str]:
        last = self._rng.randint(3, 30)
        chinese = ("从1数到{}", "请从1数到{}", "数到{}", "从一数到{}")
        english = ("Count to {}", "count from 1 to {}", "Count from 1 to {}.", "Please count to {}")
        form = self._rng.choice(chinese + english)
        return form.format(last), " ".join(str(number) for number in range(1, last + 1))

    def _greeting_by_name(self) -> tuple[str, str, str]:
        """Make a round that tells a name; return question, answer, name."""
        if self._rng.random() < 0.4:
            name = self._rng.choice(ENGLISH_NAMES)
            return self._rng.choice(TELLING_ENGLISH).format(name), f"Nice to meet you, {name.rstrip('.')}!", name
        name = self._chinese_name()
        return self._rng.choice(TELLING).format(name), f"你好，{name}！很高兴认识你。", name

    def _name_rounds(self, rounds: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Put a name into an early round and a question for it into the last."""
        question, answer, name = self._greeting_by_name()
        if self._rng.random() < 0.5:
            last = (self._rng.choice(ASKING_ENGLISH), f"Your name is {name}.")
        else:
            last = (self._rng.choice(ASKING), f"你叫{name}。")
        others = [turn for turn in rounds[:-1] if not turn[1].startswith(("Nice to meet you", "你好，"))]
        if self._rng.random() < 0.15:
            unknown = "I do not know your name yet." if last[0] in ASKING_ENGLISH else "你还没有告诉我你的名字。"
            return [*others, (last[0], unknown)]
        others.insert(self._rng.randint(0, len(others)), (question, answer))
        return [*others, last]

    def _chinese_name(self) -> str:
        if self._rng.random() < 0.3:
            return self._rng.choice(NICKNAMES)
        return self._rng.choice(SURNAMES) + "".join(self._rng.choices(GIVEN, k=self._rng.choice((1, 2))))

    def _system_text(self) -> str:
        if self._rng.random() < 0.7:
            return self._rng.choice(SYSTEM_TEXTS)
        return self._rng.choice(self._texts)[:60]

    def _vary(self, question: str) -> str:
        """Add or leave out the final mark, or change the case of the first letter."""
        roll = self._rng.random()
        if roll < 0.25 and question[-1].isalnum():
            chinese = any(letter >= "\u4e00" for letter in question)
            return question + self._rng.choice("？！。，" if chinese else "?!.")
        if roll < 0.35:
            return question.rstrip("？！。?!.") or question
        if roll < 0.45:
            return question[:1].swapcase() + question[1:]
        return question
