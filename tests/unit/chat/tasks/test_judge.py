"""Answers compared with the right ones, field by field."""

from collections import Counter

import pytest
from llguidance import LLMatcher, LLTokenizer

from glmserve.chat.tasks.judge import AnswerField, Confusion, Example, FieldKind, judge, read_fields
from glmserve.chat.tasks.loader import load_tasks
from glmserve.chat.tasks.task import Task
from glmserve.engine.grammar_backend import internal_form

TASKS = load_tasks(None)
BYTES = LLTokenizer("byte")
TOPIC, TIME, PLACES = (
    AnswerField("话题", FieldKind.LABEL), AnswerField("时间", FieldKind.EXACT), AnswerField("地点", FieldKind.SET),
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "right", "answered", "is_right"),
    [
        (FieldKind.LABEL, ("正面",), " 正面\n", True),
        (FieldKind.LABEL, ("正面",), "负面", False),
        (FieldKind.EXACT, ("三月",), "三月一日", False),
        (FieldKind.NUMBER, ("1200",), "1,200.0", True),
        (FieldKind.NUMBER, ("12",), "１２", True),
        (FieldKind.NUMBER, ("12",), "1,2", False),
        (FieldKind.NUMBER, ("12",), "12 items", False),
        (FieldKind.NUMBER, ("12",), "sNaN", False),
        (FieldKind.SET, ("a", "b"), "b、 a，a", True),
        (FieldKind.SET, ("a", "b"), "a", False),
        (FieldKind.LIST, ("a", "b"), "a; b", True),
        (FieldKind.LIST, ("a", "b"), "b, a", False),
        (FieldKind.TEXT, (), "something", True),
        (FieldKind.TEXT, (), "  ", False),
        (FieldKind.TEXT, ("公园", "天气"), "天气好，去公园", True),
        (FieldKind.TEXT, ("公园", "天气"), "去公园", False),
    ],
)
def test_each_kind_of_field_is_compared_in_its_way(
    kind: FieldKind, right: tuple[str, ...], answered: str, is_right: bool
) -> None:
    judgement = judge([AnswerField("answer", kind)], [Example({}, {"answer": right})], [answered])
    assert (judgement.accuracy, judgement.all_right) == (float(is_right), float(is_right))


def test_fields_are_read_from_lines_and_from_objects() -> None:
    fields = (TOPIC, TIME, AnswerField("时间类型", FieldKind.LABEL), PLACES)
    lines = "话题：生日\n时间类型: 生日时间\n多行\n时间：\n地点：家、店\n"
    read = {"话题": ("生日",), "时间类型": ("生日时间\n多行",), "时间": (), "地点": ("家", "店")}
    assert read_fields(fields, lines) == read
    as_json = '{"话题": "生日", "地点": ["家、里", "店"], "时间": 3, "other": null}'
    assert read_fields(fields, as_json) == {"话题": ("生日",), "地点": ("家、里", "店"), "时间": ("3",)}
    assert read_fields(fields, "生日") == read_fields(fields, "[1]") == {}


def test_numbered_fields_are_the_members_of_one() -> None:
    fields = [AnswerField("动作", FieldKind.LIST), AnswerField("条件", FieldKind.LIST)]
    answer = "动作1:打开空调，关窗\n条件1:无\n\n动作2:播放音乐\n条件2:到家后"
    assert read_fields(fields, answer) == {"动作": ("打开空调，关窗", "播放音乐"), "条件": ("无", "到家后")}


def test_accuracy_is_counted_by_field_and_over_all_that_an_example_says() -> None:
    examples = [Example({}, {"话题": ("生日",), "时间": ("今天",)}), Example({}, {"话题": ("月经",)})]
    judgement = judge((TOPIC, TIME, PLACES), examples, ["话题：生日\n时间：明天", "话题：月经\n时间：无"])
    assert [(score.field.name, score.right, score.of) for score in judgement.fields] == [("话题", 2, 2), ("时间", 0, 1)]
    assert (judgement.accuracy, judgement.all_right) == (2 / 3, 1 / 2)


def test_the_confusion_counts_right_and_answered_labels_and_missing_ones() -> None:
    examples = [Example({}, {"话题": (right,)}) for right in ("生日", "生日", "月经", "月经")]
    answers = ["话题：生日", "话题：月经", "话题：天气", "不知道"]
    (score,) = judge([TOPIC], examples, answers).fields
    assert score.confusion == Confusion(("生日", "月经"), ("生日", "月经", "天气", ""), ((1, 1, 0, 0), (0, 0, 1, 1)))


def test_answers_that_cost_much_to_search_are_read_in_time_with_their_length() -> None:
    hostile = "动作" + " " * 200_000 + "1" * 200_000 + "、" + "\n" * 200_000
    for kind in FieldKind:
        judge([AnswerField("动作", kind)], [Example({}, {"动作": ("1",)})], [hostile, f"动作:{hostile}"][:1])
        read_fields([AnswerField("动作", kind)], f"动作:{hostile}")


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_each_task_of_the_package_has_varied_examples(task: Task) -> None:
    assert 8 <= len(task.examples) <= 20
    inputs = [example.variables["text"] for example in task.examples]
    assert len(set(inputs)) == len(inputs)
    assert all(set(example.right) == {field.name for field in task.fields} for example in task.examples)


@pytest.mark.parametrize(("task", "field"), [("review", "answer"), ("intent", "话题")])
def test_no_label_is_more_frequent_than_another_by_far(task: str, field: str) -> None:
    labels = Counter(example.right[field] for example in TASKS[task].examples)
    assert max(labels.values()) == min(labels.values())


@pytest.mark.parametrize("task", ["review", "intent", "car"])
def test_a_right_answer_can_be_given_in_the_grammar(task: str) -> None:
    for example in TASKS[task].examples:
        grammar = TASKS[task].output_constraint(example.variables).grammar
        assert grammar is not None
        matcher, ids = LLMatcher(BYTES, internal_form(grammar)), BYTES.tokenize_str(_written(task, example))
        assert matcher.try_consume_tokens(ids) == len(ids), example
        assert matcher.is_accepting(), example


def _written(task: str, example: Example) -> str:
    if task == "review":
        return example.right["answer"][0]
    if task == "intent":
        return "\n".join(f"{name}：{values[0]}" for name, values in example.right.items())
    pairs = zip(example.right["动作"], example.right["条件"], strict=True)
    return "\n\n".join(f"动作{at}:{action}\n条件{at}:{condition}" for at, (action, condition) in enumerate(pairs, 1))
