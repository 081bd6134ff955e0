"""What the grammars of the package take and what not, followed by llguidance itself."""

import json
from pathlib import Path

import pytest
from llguidance import LLMatcher, LLTokenizer

from glmserve.chat.tasks.loader import load_tasks
from glmserve.engine.grammar_backend import internal_form

TASKS = load_tasks(None)
BYTES = LLTokenizer("byte")
HELD_OUT = Path(__file__).parents[4] / "models" / "tiny" / "heldout" / "intents.jsonl"
ORDER = "到家后打开空调，若太热，“静音”播放音乐。"
NEWS = "完成1.2亿元A轮融资，2019年成立，团队12人"
RECORD = "话题：{}\n目的：记录\n人物：{}\n关系：未知\n时间：{}\n时间类型：无\n物品：{}\n位置：无"


def takes(task: str, text: str, answer: str) -> bool:
    grammar = TASKS[task].output_constraint({"text": text}).grammar
    assert grammar is not None
    matcher = LLMatcher(BYTES, internal_form(grammar))
    ids = BYTES.tokenize_str(answer)
    return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())


def test_every_held_out_record_fits() -> None:
    rows = [json.loads(line) for line in HELD_OUT.read_text("utf-8").splitlines()]
    assert [row for row in rows if not takes("intent", row["text"], row["answer"])] == []


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        (("生日", "张派", "三月二十日", "无"), True),
        (("生日", "妈妈", "今天", "待查询"), True),
        (("天气", "张派", "无", "无"), False),
        (("生日", "李四", "无", "无"), False),
        (("生日", "", "无", "无"), False),
        (("生日", "张派的", "三月二十日的", "无"), False),
        (("生日", "派，三", "无", "无"), True),
        (("生日", "张派，", "无", "无"), False),
        (("生日", "无", "无", "无\n物品：无"), False),
    ],
)
def test_a_field_is_from_its_list_or_said_by_the_user(values: tuple[str, ...], fits: bool) -> None:
    assert takes("intent", "张派，三月二十", RECORD.format(*values)) is fits


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ("动作1:打开空调\n条件1:到家后", True),
        ("动作1:打开空调\n条件1:到家后\n\n动作2:“静音”播放音乐\n条件2:太热", True),
        ("动作1:打开空调\n条件1:", False),
        ("动作1:关闭空调\n条件1:无", False),
        ("动作1:打开空调，\n条件1:无", False),
        ("动作1:打开空调\n条件1:到家后\n\n动作3:播放音乐\n条件3:无", False),
        ("动作1:打开空调\n条件1:到家后\n用户输入：x", False),
        ("\n\n".join(f"动作{at}:无\n条件{at}:无" for at in range(1, 9)), True),
        ("\n\n".join(f"动作{at}:无\n条件{at}:无" for at in range(1, 10)), False),
    ],
)
def test_actions_and_conditions_are_counted_and_in_the_users_words(answer: str, fits: bool) -> None:
    assert takes("car", ORDER, answer) is fits


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("1.2亿元，2019年", True),
        ("没有数字", True),
        ("12", True),
        ("1亿元", False),
        ("1.3亿元", False),
        ("12019", False),
        ("019年", False),
    ],
)
def test_news_have_no_number_but_those_of_the_text(said: str, fits: bool) -> None:
    assert takes("news", NEWS, f"今日新闻：{said}\n标题：标题\n正文：正文\n\n第二段") is fits
    assert takes("news", "没有", f"今日新闻：一\n标题：二\n正文：{said}") is (said == "没有数字")


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("好一中人の。一，" * 16, True),
        ("好" * 129, False),
        ("word, " * 127 + "word.", True),
        ("word, " * 128 + "word.", False),
        ("一\n二", False),
    ],
)
def test_a_sentence_has_at_most_128_words_in_one_line(said: str, fits: bool) -> None:
    assert takes("synonym", "x", said) is takes("synonym-zh", "x", said) is fits


def test_long_answers_stay_within_what_llguidance_can_follow() -> None:
    """A grammar may be small and yet run out of states after a hundred characters, which only such answers show."""
    text = "芯源科技近日宣布完成1.2亿元A轮融资，由蓝海资本领投。公司成立于2019年，团队来自清华大学。" * 9
    assert takes("news", text, f"今日新闻：{text[:120]}\n标题：{text[:80]}\n正文：{text}\n\n{text}\n{text}")
    assert takes("style", text, text[:120])
    assert takes(
        "summary", text, f"文本：{text}\n摘要：{text[:60]}\n翻译：{'word ' * 60}\n关键词：融资、芯源科技、大学"
    )
    assert takes("car", text, f"动作1:{text[:200]}\n条件1:{text[50:100]}")


def test_a_summary_repeats_the_text_and_is_translated() -> None:
    text = '他说："好"。\n第二行'
    answer = "文本：{}\n摘要：他说好\n翻译：He said: good.\n关键词：他、说、好"
    assert takes("summary", text, answer.format(text))
    assert not takes("summary", text, answer.format("别的"))
    assert not takes("summary", text, answer.format(text).replace("He", "他"))
    assert not takes("summary", text, answer.format(text) + "、多")
