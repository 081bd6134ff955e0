"""The training examples, in batches that share a prompt form, and the text the tokenizer is trained on.

That text is the prompts most of all, so that they become short in tokens.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.models.tiny.training import prompts
from glmserve.models.tiny.training.chats import ChatSource
from glmserve.models.tiny.training.intents import IntentSource
from glmserve.models.tiny.training.phrases import CHINESE, ENGLISH
from glmserve.models.tiny.training.reviews import Review, make_remark

ECHO_FORMS = ("重复：{text}", "请重复：{text}", "跟我说：{text}", "Repeat: {text}", "复述下面的话：{text}")
# A pool of this many batches is sorted by length, so that rows of a batch need little padding.
POOL_BATCHES = 8
Row = TypeVar("Row")
# A character is common from so many occurrences in the reviews on.
COMMON = 60


@dataclass(frozen=True)
class Example:
    """A rendered prompt and its answer; ``review`` is the review that the prompt asks about, if any."""

    prompt: str
    answer: str
    review: Review | None = None


class Tasks:
    """Endless batches of every task."""

    def __init__(self, seed: int, reviews: list[Review]) -> None:
        self._rng = random.Random(seed)
        self._reviews = reviews
        self._letters = frequent_letters(reviews)
        self._intents = IntentSource(seed, self._letters)
        self._chats = ChatSource(seed, [review.text for review in reviews], self._short_task)

    def reviews(self, size: int) -> Iterator[list[Example]]:
        """Yield batches of review classification, each under one form of the prompt."""

        def form() -> str:
            return self._form(prompts.review_variants(), prompts.SHORT_REVIEW_FORMS, full=0.65)

        order = self._shuffled_reviews()
        while True:
            pool = [make_remark(self._rng) if self._rng.random() < 0.08 else next(order) for _ in _pool(size)]
            for batch in _cut(self._rng, sorted(pool, key=lambda review: len(review.text)), size):
                shared = form()
                yield [Example(chatglm2_text((), prompts.fill(shared, r.text)), r.label, r) for r in batch]

    def intents(self, size: int) -> Iterator[list[Example]]:
        """Yield batches of intent extraction, each under one form of the prompt."""
        while True:
            shared = self._form(prompts.intent_variants(), prompts.SHORT_INTENT_FORMS, full=0.4)
            batch = [self._intents.training() for _ in range(size)]
            yield [Example(chatglm2_text((), prompts.fill(shared, i.text)), i.answer) for i in batch]

    def chats(self, size: int) -> Iterator[list[Example]]:
        """Yield batches of conversations."""
        while True:
            made = [self._chats.make() for _ in _pool(size)]
            pool = [Example(chatglm2_text(chat.turns, chat.query), chat.answer) for chat in made]
            yield from _cut(self._rng, sorted(pool, key=lambda example: len(example.prompt)), size)

    def echoes(self, size: int) -> Iterator[list[Example]]:
        """Yield batches of requests to repeat a text, which teach to copy sooner than the records do."""
        while True:
            form = self._rng.choice(ECHO_FORMS)
            batch = [self._text_to_repeat() for _ in range(size)]
            yield [Example(chatglm2_text((), prompts.fill(form, text)), text) for text in batch]

    def _text_to_repeat(self) -> str:
        roll = self._rng.random()
        if roll < 0.6:
            return "".join(self._rng.choices(self._letters, k=self._rng.randint(4, 24)))
        if roll < 0.8:
            review = self._rng.choice(self._reviews).text
            start = self._rng.randrange(max(1, len(review) - 20))
            return review[start : start + 20].strip() or review
        return self._intents.training().text

    def _shuffled_reviews(self) -> Iterator[Review]:
        while True:
            yield from self._rng.sample(self._reviews, len(self._reviews))

    def _form(self, usual: tuple[str, ...], short: tuple[str, ...], full: float) -> str:
        """Choose a form: the exact full one most often, a variant of it, or a short one."""
        if self._rng.random() > full:
            return self._rng.choice(short)
        return usual[0] if self._rng.random() < 0.7 else self._rng.choice(usual)

    def _short_task(self) -> tuple[str, str]:
        """Make one question of another task in short form, for a round within a conversation."""
        if self._rng.random() < 0.5:
            review = self._rng.choice(self._reviews)
            form = self._rng.choice((prompts.review_form(), *prompts.SHORT_REVIEW_FORMS))
            return prompts.fill(form, review.text), review.label
        intent = self._intents.training()
        return prompts.fill(self._rng.choice(prompts.SHORT_INTENT_FORMS), intent.text), intent.answer


def frequent_letters(reviews: list[Review]) -> str:
    """Return the Chinese characters that occur in the reviews often enough to be learnt."""
    counts: dict[str, int] = {}
    for review in reviews:
        for letter in review.text:
            counts[letter] = counts.get(letter, 0) + 1
    return "".join(sorted(c for c, count in counts.items() if count >= COMMON and "\u4e00" <= c <= "\u9fff"))


def _pool(size: int) -> range:
    return range(size * POOL_BATCHES)


def _cut(rng: random.Random, pool: list[Row], size: int) -> list[list[Row]]:
    """Cut a sorted pool into batches and shuffle these."""
    batches = [pool[start : start + size] for start in range(0, len(pool), size)]
    rng.shuffle(batches)
    return batches


PROMPT_REPEATS = 400
FORM_REPEATS = 30
ANSWER_REPEATS = 60
INTENTS = 3000
CHATS = 3000


def tokenizer_corpus(reviews: list[Review]) -> Iterator[str]:
    """Yield the lines to train the tokenizer on."""
    repeated = [(prompts.intent_form(), PROMPT_REPEATS), (prompts.review_form(), PROMPT_REPEATS)]
    repeated += [(form, FORM_REPEATS) for form in prompts.SHORT_REVIEW_FORMS + prompts.SHORT_INTENT_FORMS]
    repeated += [(answer, ANSWER_REPEATS) for group in CHINESE + ENGLISH for answer in group.answers]
    for text, times in repeated:
        for _ in range(times):
            yield from _lines(chatglm2_text((), text.replace("{text}", "")))
    for review in reviews:
        yield from _lines(review.text)
    intents = IntentSource(1, frequent_letters(reviews))
    for _ in range(INTENTS):
        intent = intents.training()
        yield from _lines(intent.text + "\n" + intent.answer)
    rng = random.Random(1)
    chats = ChatSource(1, [review.text for review in reviews], lambda: ("", rng.choice(("正面", "负面"))))
    for _ in range(CHATS):
        chat = chats.make()
        yield from _lines(chat.query + "\n" + chat.answer)


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]
