"""The prompts the tiny model is trained on, each in the full form and in shorter ones.

The full forms are the files in ``models/tiny/prompts``; ``{text}`` marks the place of the input.
"""

import zlib
from functools import lru_cache
from pathlib import Path


def held_out(key: str, one_in: int) -> bool:
    """Say whether ``key`` belongs to the held-out part, which is one ``one_in``-th of all keys."""
    return zlib.crc32(key.encode("utf-8")) % one_in == 0


PROMPTS_DIR = Path(__file__).resolve().parent.parent / "prompts"

SHORT_REVIEW_FORMS = (
    "输入文本：{text}\n输出类别：",
    "判断下面的评论是正面还是负面：\n{text}",
    "判断这条评论是正面还是负面：{text}",
    "这条评论是正面还是负面？{text}",
    "情感分类：{text}",
    "请对下面的文本进行分类，输出正面或负面。\n输入文本：{text}\n输出类别：",
    "你是一名文本分类助手，请将评论分为正面和负面两类，最多输出两个字。\n---\n输入文本：{text}\n输出类别：",
    "Is this review positive or negative? {text}",
)

SHORT_INTENT_FORMS = (
    "用户：{text}",
    "信息抽取：{text}",
    "请提取下面这句话的意图：{text}",
    "提取话题、目的、人物、关系、时间、时间类型、物品、位置。\n\n用户：{text}",
    "你是一个智能助理，你需要帮用户结构化记录生日信息、物品存放信息、月经信息\n\n用户：{text}",
    "从用户的指令中提取：话题、目的、人物、关系、时间、时间类型、物品、位置\n用户：{text}",
)


@lru_cache
def review_form() -> str:
    """Return the full review classification prompt, with ``{text}`` in it."""
    return _read("review.txt")


@lru_cache
def intent_form() -> str:
    """Return the full intent extraction prompt, with ``{text}`` in it."""
    return _read("intent.txt")


def fill(form: str, text: str) -> str:
    """Put ``text`` into ``form``; braces elsewhere in the form mean nothing."""
    return form.replace("{text}", text)


def review_variants() -> tuple[str, ...]:
    """Return the ways in which people paste the full review prompt."""
    form = review_form()
    return (form, "\n" + form, form.replace("：{text}", ": {text}").replace("输出类别：", "输出类别:"))


def intent_variants() -> tuple[str, ...]:
    """Return the ways in which people paste the full extraction prompt."""
    form = intent_form()
    return (
        form,
        "\n" + form,
        form + "\n",
        form.replace("用户：{text}", "用户:{text}"),
        form.replace("用户：{text}", "用户:<{text}>"),
        form.replace("用户：{text}", "用户:<>\n{text}"),
    )


def _read(name: str) -> str:
    return (PROMPTS_DIR / name).read_text(encoding="utf-8").removesuffix("\n")
