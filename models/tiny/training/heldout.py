"""The held-out rows: all of them from code and seed, and the small samples committed in ``heldout/``."""

from pathlib import Path

from glmserve.models.tiny.training.evaluate import Row, write_rows
from glmserve.models.tiny.training.intents import Intent, IntentSource
from glmserve.models.tiny.training.reviews import load_reviews
from glmserve.models.tiny.training.tasks import frequent_letters

SEED = 2
INTENTS = 600
SAMPLE = 100


def held_out_reviews() -> list[Row]:
    """Return every held-out review."""
    return [Row(review.text, review.label) for review in load_reviews()[1]]


def held_out_intents() -> list[Row]:
    """Return the held-out sentences, without repeats."""
    source = IntentSource(SEED, frequent_letters(load_reviews()[0]))
    made: dict[str, Intent] = {}
    while len(made) < INTENTS:
        intent = source.held_out()
        made.setdefault(intent.text, intent)
    return [Row(intent.text, intent.answer) for intent in made.values()]


def write_samples(folder: Path) -> None:
    """Write the first rows of each kind to ``folder``."""
    write_rows(folder / "reviews.jsonl", held_out_reviews()[:SAMPLE])
    write_rows(folder / "intents.jsonl", held_out_intents()[:SAMPLE])
