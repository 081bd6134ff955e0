"""Tasks: what a file says, and what is told of one that cannot be used."""

from pathlib import Path

import pytest

from glmserve.chat.tasks.judge import FieldKind
from glmserve.chat.tasks.loader import TaskFileError, load_tasks
from glmserve.chat.tasks.task import Task, TaskSampling, Variable, Words
from glmserve.engine.params import Grammar, GrammarKind

ROOT = Path(__file__).parents[4]

FULL = """
title = "示例"
description = { zh = "一个示例", en = "An example" }
template = '''
评论：{{ text }}
类别：
'''
stop = ["\\n"]

[slots.text]
description = { zh = "评论" }
example = "不错"
default = "好"

[sampling]
temperature = 0
top_p = 0.5
top_k = 1
repetition_penalty = 1.1
max_tokens = 8

[grammar]
choice = ["正面", "负面(!)"]
"""


EXAMPLE = 'template = "{{a}}"\n[[examples]]\ntext = "x"\nanswer = "ok"'


def load(folder: Path, text: str | bytes) -> Task:
    (folder / "示例.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_tasks(folder, builtin=False)["示例"]


def test_a_file_has_all_that_is_said_of_a_prompt(tmp_path: Path) -> None:
    task = load(tmp_path, FULL)
    assert task.id == "示例"
    assert task.title == Words("示例", "示例")
    assert task.description == Words("一个示例", "An example")
    assert task.slots == (Variable("text", Words("评论"), "不错", "好"),)
    assert task.fill({"text": "好"}) == "评论：好\n类别："
    assert task.sampling == TaskSampling(0.0, 0.5, 1, 1.1, 8)
    assert task.stop == ("\n",)
    assert task.grammar == Grammar(GrammarKind.REGEX, r"正面|负面\(!\)")


@pytest.mark.parametrize(
    ("line", "grammar"),
    [
        ('regex = "[01]+"', Grammar(GrammarKind.REGEX, "[01]+")),
        ('json_schema = {type = "string"}', Grammar(GrammarKind.JSON_SCHEMA, '{"type": "string"}')),
        ('lark = "start: /a+/"', Grammar(GrammarKind.LARK, "start: /a+/", trusted=True)),
    ],
)
def test_a_grammar_can_be_written_in_several_ways(tmp_path: Path, line: str, grammar: Grammar) -> None:
    assert load(tmp_path, f'template = "x"\n[grammar]\n{line}').grammar == grammar


def test_no_more_than_a_template_is_needed(tmp_path: Path) -> None:
    assert load(tmp_path, 'template = "{{a}}和{{b_2}}和{{a}}"') == Task("示例", "{{a}}和{{b_2}}和{{a}}")


@pytest.mark.parametrize(
    ("grammar", "fields"),
    [
        ('choice = ["a", "b"]', {"answer": FieldKind.LABEL}),
        ('regex = "[ab]"', {"answer": FieldKind.TEXT}),
        ('json_schema = { type = "string" }', {"answer": FieldKind.TEXT}),
        (
            'json_schema.properties = { a = { enum = ["x"] }, b = { type = "integer" }, c = { type = "boolean" }, '
            'd = { type = "array" }, e = { type = "string" }, f = true }',
            dict(zip("abcdef", (FieldKind.LABEL, FieldKind.NUMBER, FieldKind.LABEL, FieldKind.SET, FieldKind.TEXT,
                                FieldKind.TEXT), strict=True)),
        ),
    ],
)  # fmt: skip
def test_fields_that_are_not_declared_are_those_of_the_grammar(
    tmp_path: Path, grammar: str, fields: dict[str, FieldKind]
) -> None:
    task = load(tmp_path, f'template = "x"\n[grammar]\n{grammar}')
    assert {field.name: field.kind for field in task.fields} == fields


def test_an_example_has_the_text_of_the_answer_or_its_fields(tmp_path: Path) -> None:
    fields = '[fields]\ntopic = "label"\nnote = "text"\ncount = "number"\nwords = "set"'
    written = 'text = "x"\nanswer = "topic: a\\nnote: any\\ncount: 3\\nwords: b、c"'
    listed = 'variables = { t = "x" }\nanswer = { topic = true, note = ["any"], count = 3, words = ["b", "c"] }'
    task = load(tmp_path, f'template = "{{{{t}}}}"\n{fields}\n[[examples]]\n{written}\n[[examples]]\n{listed}')
    counted = {"count": ("3",), "words": ("b", "c")}
    assert [dict(example.right) for example in task.examples] == [
        {"topic": ("a",), "note": (), **counted},
        {"topic": ("true",), "note": ("any",), **counted},
    ]
    assert [example.variables for example in task.examples] == [{"t": "x"}, {"t": "x"}]


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no prompt")
    assert load_tasks(tmp_path, builtin=False) == {}
    assert load_tasks(None, builtin=False) == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('template = "x"\n\ntemprature = 1', "示例.toml:3: temprature"),
        ('template = "x"\n[sampling]\ntop_p = 2', "示例.toml:3: sampling.top_p"),
        ('template = "x"\n[sampling]\nseed = 2', "示例.toml:3: sampling.seed"),
        ('template = "x"\n[grammar]', "示例.toml:2: grammar"),
        ('template = "x"\n[grammar]\nregex = "a"\nlark = "b"', "示例.toml:2: grammar"),
        ('description = "x"', "示例.toml:1: template"),
        ("template = '''\n{{a}}\n{{ b c }}'''", "示例.toml:3: template: {{ must be followed"),
        ('template = "{{a}}"\n[slots.b]\ndefault = ""', "示例.toml:2: slots.b: the template has no such variable"),
        ('template = "{{a}}"\n[grammar]\nlark = "start: {{b}}"', "示例.toml:3: grammar.lark: there is no variable 'b'"),
        ('template = "a"\n\n[grammar]\nregex = "("', "示例.toml:3: grammar: it cannot be used: "),
        ('template = "{{a}}"\n[slots.a]\nsample = ""', "示例.toml:3: slots.a.sample"),
        ('template = "{{a}}"\n[[examples]]\ntext = "x"', "示例.toml:2: examples[0].answer"),
        (
            'template = "{{a}}"\n[[examples]]\ntext = "x"\nanswer = ""\n[[examples]]\ntext = "x"\nanswer = 3',
            "示例.toml:4: examples[0].answer",
        ),
        (
            f'{EXAMPLE}\n[[examples]]\nvariables = {{ a = "x", b = "x" }}\nanswer = "x"',
            "示例.toml:5: examples[1]: the prompt '示例' has no variable 'b'",
        ),
        (
            f"{EXAMPLE}\n[[examples]]\nanswer = ['x']",
            "示例.toml:5: examples[1]: the prompt '示例' needs the variable 'a'",
        ),
        (f'{EXAMPLE}\n[fields]\n"价" = "price"', "示例.toml:5: fields.价: Input should be 'label', 'exact'"),
        (f'{EXAMPLE}\n[fields]\nprice = "number"', "示例.toml:4: examples[0].answer: it has no field; the fields"),
        (
            f'{EXAMPLE}\n[[examples]]\ntext = "x"\nanswer = {{ price = 1 }}',
            ":7: examples[1].answer: 'price' is no field",
        ),
        (
            f'{EXAMPLE.replace("ok", "price: ten")}\n[fields]\nprice = "number"',
            "示例.toml:4: examples[0].answer: price must be a number",
        ),
        ('template = "{{a}}{{b}}"\n[[examples]]\ntext = "x"\nanswer = "x"', ":3: examples[0].text: no single variable"),
        ('template = "a"\n\x00', "line 2"),
        ("template = ", "not a TOML file (Invalid value (at end of document))"),
        (b'template = "x"\ndescription = "\xff"', "示例.toml:2: not valid UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_line(tmp_path: Path, text: str | bytes, place: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        load(tmp_path, text)
    assert place in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_no_model_name_could_end_with_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my task.toml").write_text('template = "x"')
    with pytest.raises(TaskFileError, match="the file name is the name of the task; rename it"):
        load_tasks(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match="nowhere: cannot be read"):
        load_tasks(tmp_path / "nowhere")


def test_a_file_of_ones_own_takes_the_place_of_one_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "review.toml").write_text('template = "mine: {{text}}"')
    assert load_tasks(tmp_path)["review"].template == "mine: {{text}}"
    assert load_tasks(tmp_path)["intent"] == load_tasks(None)["intent"]


@pytest.mark.parametrize("task", ["review", "intent"])
def test_what_the_embedded_model_was_trained_on_is_what_the_package_has(task: str) -> None:
    form = (ROOT / "models" / "tiny" / "prompts" / f"{task}.txt").read_text("utf-8").strip()
    assert load_tasks(None)[task].fill({"text": "不错"}) == form.replace("{text}", "不错")


@pytest.mark.parametrize("task", load_tasks(None).values(), ids=str)
def test_each_task_of_the_package_says_what_people_need_to_know(task: Task) -> None:
    said = [task.title, task.description, *(slot.description for slot in task.slots)]
    assert all(words.zh and words.en for words in said)
    assert task.main == "text"
    assert all(slot.example or slot.default for slot in task.slots)
    assert task.sampling.max_tokens
    assert task.grammar


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load(tmp_path, FULL.encode("utf-8-sig")) == load(tmp_path, FULL)
