"""Stored prompts: what a file says, and what is told of one that cannot be used."""

from pathlib import Path

import pytest

from server.engine.grammar import Grammar, GrammarKind
from server.tasks.files import TaskFileError, load_tasks
from server.tasks.task import Task, TaskSampling, VariableError

ROOT = Path(__file__).parents[3]

FULL = """
description = "示例"
template = '''
评论：{{ text }}
类别：
'''
stop = ["\\n"]

[sampling]
temperature = 0
top_p = 0.5
top_k = 1
repetition_penalty = 1.1
max_tokens = 8

[grammar]
choice = ["正面", "负面(!)"]
"""


def load(folder: Path, text: str | bytes) -> Task:
    (folder / "示例.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_tasks(folder)["示例"]


def test_a_file_has_all_that_is_said_of_a_prompt(tmp_path: Path) -> None:
    task = load(tmp_path, FULL)
    assert task.id == "示例"
    assert task.description == "示例"
    assert task.variables == ("text",)
    assert task.fill({"text": "好"}) == "评论：好\n类别："
    assert task.sampling == TaskSampling(0.0, 0.5, 1, 1.1, 8)
    assert task.stop == ("\n",)
    assert task.grammar == Grammar(GrammarKind.REGEX, r"正面|负面\(!\)")


@pytest.mark.parametrize(
    ("line", "grammar"),
    [
        ('regex = "[01]+"', Grammar(GrammarKind.REGEX, "[01]+")),
        ('json_schema = {type = "string"}', Grammar(GrammarKind.JSON_SCHEMA, '{"type": "string"}')),
        ('lark = "start: NAME"', Grammar(GrammarKind.LARK, "start: NAME")),
    ],
)
def test_a_grammar_can_be_written_in_several_ways(tmp_path: Path, line: str, grammar: Grammar) -> None:
    assert load(tmp_path, f'template = "x"\n[grammar]\n{line}').grammar == grammar


def test_no_more_than_a_template_is_needed(tmp_path: Path) -> None:
    assert load(tmp_path, 'template = "{{a}}和{{b_2}}和{{a}}"') == Task("示例", "{{a}}和{{b_2}}和{{a}}")


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no prompt")
    assert load_tasks(tmp_path) == {}
    assert load_tasks(None) == {}


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


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match="nowhere: cannot be read"):
        load_tasks(tmp_path / "nowhere")


def test_every_slot_is_filled_and_nothing_in_a_value_is_a_slot() -> None:
    task = Task("t", "{{a}}-{{b}}-{{a}}")
    assert task.fill({"a": "{{b}}", "b": r"\1"}) == r"{{b}}-\1-{{b}}"


def test_values_must_fit_the_slots() -> None:
    task = Task("t", "{{a}}-{{b}}")
    with pytest.raises(VariableError, match="needs the variable 'b'"):
        task.fill({"a": "1"})
    with pytest.raises(VariableError, match="no variable 'c'; it has: a, b") as caught:
        task.fill({"a": "1", "b": "2", "c": "3"})
    assert caught.value.variable == "c"


def test_the_example_of_the_documentation_is_what_the_embedded_model_was_trained_on() -> None:
    prompts = ROOT / "models" / "tiny" / "prompts"
    task = load_tasks(ROOT / "docs" / "prompts")["review"]
    assert task.fill({"text": "不错"}) == (prompts / "review.txt").read_text("utf-8").strip().replace("{text}", "不错")
