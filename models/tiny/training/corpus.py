"""The text the tokenizer is trained on: the prompts most of all, so that they become short in tokens."""

import random
from collections.abc import Iterator

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.models.tiny.training import prompts
from glmserve.models.tiny.training.chats import ChatSource
from glmserve.models.tiny.training.intents import IntentSource
from glmserve.models.tiny.training.phrases import CHINESE, ENGLISH
from glmserve.models.tiny.training.reviews import Review
from glmserve.models.tiny.training.tasks import frequent_letters

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
