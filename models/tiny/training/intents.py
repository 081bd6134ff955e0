"""Everyday sentences about birthdays, anniversaries, periods and stored things, with their records.

The rules of labelling, where the prompt leaves room:

* 人物 is the person as said, without 我; words of the prompt's list replace colloquial ones (老妈 -> 妈妈,
  儿子 -> 孩子, 老婆 -> 爱人). Nobody named means 我, 本人. A bare name has the relation 未知.
* 时间 is the time of the event as said, without 每年 and without the time of a reminder; a day of the month
  said without a unit gets 日. A period that "has come" or "is over" without a time means 今天.
* A question after a time, place or thing has 待查询 there; 时间类型 then tells which time is asked for.
* 时间类型 is one of 生日时间, 纪念日时间, 月经开始时间, 月经结束时间, 无, as the prompt's examples write it.
* A topic alone (小明的生日) is a question. Stored things have no 时间类型; 位置 loses a final 里, 里面 or 上.
"""

import random
from dataclasses import dataclass

from glmserve.models.tiny.training.prompts import held_out
from glmserve.models.tiny.training.slots import ASKED, NONE, Person, Pool
from glmserve.models.tiny.training.templates import TEMPLATES, Template

FIELDS = ("话题", "目的", "人物", "关系", "时间", "时间类型", "物品", "位置")
HELD_OUT_ONE_IN = 20
SPLIT_SLOTS = ("{p}", "{d}", "{i}", "{l}")
OPENINGS = ("帮我", "请", "麻烦", "请帮我", "那个，", "你好，", "帮忙", "嗯，", "麻烦你", "给我")
CLOSINGS = ("吧", "哦", "，谢谢", "哈", "一下", "呀", "。", "，别忘了", "！", "啊", "哟")
CHATTY_OPENINGS = ("那个，", "你好，", "嗯，", "对了，", "跟你说，")
CHATTY_CLOSINGS = ("哦", "哈", "呀", "。", "！", "啊", "哟")


@dataclass(frozen=True)
class Intent:
    """A sentence and the eight fields of its record, in the order of ``FIELDS``."""

    text: str
    values: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The record as the prompt asks for it: one field a line."""
        return "\n".join(f"{field}：{value}" for field, value in zip(FIELDS, self.values, strict=True))


class IntentSource:
    """Makes sentences: for training, or held out."""

    def __init__(self, seed: int, letters: str) -> None:
        self._rng = random.Random(seed)
        self._seen_values = Pool(self._rng, letters, unseen=False)
        self._unseen_values = Pool(self._rng, letters, unseen=True)

    def training(self) -> Intent:
        """Make a sentence that is not held out, of values that are not held out."""
        while True:
            template = self._rng.choice(TEMPLATES)
            intent = _fill(template, self._dress(template), self._seen_values)
            if not held_out(intent.text, HELD_OUT_ONE_IN):
                return intent

    def held_out(self) -> Intent:
        """Make a held-out sentence: a held-out combination, or one with held-out names, dates and things."""
        while True:
            template = self._rng.choice(TEMPLATES)
            wording = self._dress(template)
            if self._rng.random() < 0.5:
                if any(slot in wording for slot in SPLIT_SLOTS):
                    return _fill(template, wording, self._unseen_values)
            else:
                intent = _fill(template, wording, self._seen_values)
                if held_out(intent.text, HELD_OUT_ONE_IN):
                    return intent

    def _dress(self, template: Template) -> str:
        """Choose a wording of the template and put some small talk around it."""
        wording = self._rng.choice(template.wordings)
        openings, closings = (OPENINGS, CLOSINGS) if template.order else (CHATTY_OPENINGS, CHATTY_CLOSINGS)
        roll = self._rng.random()
        if roll < 0.2:
            return self._rng.choice(openings) + wording
        if roll < 0.4:
            return wording + self._rng.choice(closings)
        return wording


def _fill(template: Template, wording: str, pool: Pool) -> Intent:
    person = pool.person() if "{p}" in wording else Person("", *template.person)
    time = {"{d}": pool.date, "{n}": pool.near, "{c}": pool.coming}
    when = next((draw() for slot, draw in time.items() if slot in wording), None)
    item, place, event = pool.item(), pool.place(), pool.event()
    text = wording.replace("{p}", person.said).replace("{i}", item.said).replace("{e}", event.said)
    text = text.replace("{l}", place.said).replace("{r}", pool.coming().said)
    if when is not None:
        text = text.replace("{d}", when.said).replace("{n}", when.said).replace("{c}", when.said)
    values = (
        template.topic,
        template.purpose,
        person.label,
        person.relation,
        when.label if when is not None else template.time,
        template.time_type,
        item.label if "{i}" in wording else (ASKED if template.asks_item else NONE),
        place.label if "{l}" in wording else (ASKED if template.asks_place else NONE),
    )
    return Intent(text, values)
