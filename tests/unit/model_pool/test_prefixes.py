"""From the file of a pinned prompt to the ids that its requests begin with."""

from pathlib import Path

import pytest

from glmserve.bootstrap.engine_config import PinnedFileError, pinned_prompts, pinned_tasks
from glmserve.chat.prompts.formats import common_beginning, prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tasks.task import Task
from glmserve.config.schema import ModelSettings
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.prefixes import PinnedPrompt, pins, task_prompt
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

FEW_SHOT = "问：一\n答：1\n问："
CONVERSATION = (Message(Role.SYSTEM, "简短"), Message(Role.USER, "你好"), Message(Role.ASSISTANT, "您好"))
FORMATS = ["chatglm2", "chatglm3", "baichuan", "codegeex2", "glm4"]


class PairTokenizer(ByteTokenizer):
    """Two equal characters in a row are one token, so what stands at a seam depends on both of its sides."""

    def encode(self, text: str) -> tuple[int, ...]:
        ids: list[int] = []
        for character in text:
            merged = ids and ids[-1] == ord(character)
            ids[-1:] = [1_000_000 + ord(character)] if merged else [*ids[-1:], ord(character)]
        return tuple(ids)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("question", ["二", "42", "and so on"])
def test_every_prompt_that_goes_on_from_a_text_begins_with_its_ids(name: str, question: str) -> None:
    form = prompt_format(name)
    ids = common_beginning((Message(Role.USER, FEW_SHOT),), form, ByteTokenizer())
    prompt = form.encode([Message(Role.USER, FEW_SHOT + question)], ByteTokenizer())
    assert prompt[: len(ids)] == ids
    assert len(ids) >= len(FEW_SHOT.encode())


def test_after_an_answer_or_a_system_message_comes_the_users() -> None:
    form = prompt_format("chatglm2")
    ids = common_beginning(CONVERSATION, form, ByteTokenizer())
    prompt = form.encode([*CONVERSATION, Message(Role.USER, "再见")], ByteTokenizer())
    assert prompt[: len(ids)] == ids
    assert ByteTokenizer().decode(ids).endswith("答：您好\n\n[Round 2]\n\n问：")


@pytest.mark.parametrize("text", ["aax", "ax ", "ab7", "ab一", "ab"])
def test_a_token_that_depends_on_what_follows_stays_out(text: str) -> None:
    form = prompt_format("codegeex2")
    ids = common_beginning((Message(Role.USER, text),), form, PairTokenizer())
    for question in ("x", " ", "7", "一", "else"):
        assert form.encode([Message(Role.USER, text + question)], PairTokenizer())[: len(ids)] == ids
    assert len(ids) >= 2 + len(text) - 2


def _model(tmp_path: Path, name: str, content: str | bytes) -> ModelSettings:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    tuned = {"name": "tuned", "prefix": file, "pin": (str(file),)}
    return ModelSettings.model_validate({"pin": (str(file),), "variants": (tuned,)})


def test_a_text_is_the_beginning_of_a_question(tmp_path: Path) -> None:
    prompts = pinned_prompts(_model(tmp_path, "few-shot.txt", FEW_SHOT))
    messages = (Message(Role.USER, FEW_SHOT),)
    assert prompts == (PinnedPrompt(messages), PinnedPrompt(messages, "tuned"))


def test_a_json_file_is_the_beginning_of_a_conversation(tmp_path: Path) -> None:
    content = '[{"role": "system", "content": "简短"}, {"role": "user", "content": "你"}]'
    prompt = pinned_prompts(_model(tmp_path, "chat.json", content))[0]
    assert prompt.messages == (Message(Role.SYSTEM, "简短"), Message(Role.USER, "你"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"\xff\xfe"),
        ("a.json", "{}"),
        ("a.json", "["),
        ("a.json", b"\xff"),
        ("a.json", '[{"role": "nobody", "content": "x"}]'),
        ("a.json", '[{"role": "user", "content": "x", "name": "y"}]'),
    ],
)
def test_a_file_of_another_shape_is_refused_by_name(tmp_path: Path, name: str, content: str | bytes) -> None:
    with pytest.raises(PinnedFileError, match=f"{name}: must be text"):
        pinned_prompts(_model(tmp_path, name, content))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PinnedFileError, match=r"gone\.txt: cannot be read \(No such file"):
        pinned_prompts(ModelSettings.model_validate({"pin": (str(tmp_path / "gone.txt"),)}))


def test_tasks_are_looked_for_on_the_disk_and_those_that_are_named_are_computed() -> None:
    model = ModelSettings.model_validate({"variants": ({"name": "tuned", "prefix": Path("p")},)})
    tasks = [Task("a", FEW_SHOT + "{{text}}"), Task("b", "{{text}}")]
    found = {
        named: [(pin.messages[0].content, pin.adapter, pin.if_saved) for pin in pinned_tasks(model, "m", tasks, named)]
        for named in [(), ("a",), ("tuned:a", "m:b")]
    }
    assert found == {
        (): [(FEW_SHOT, "", True), (FEW_SHOT, "tuned", True), ("", "", True), ("", "tuned", True)],
        ("a",): [(FEW_SHOT, "", False), (FEW_SHOT, "tuned", True), ("", "", True), ("", "tuned", True)],
        ("tuned:a", "m:b"): [(FEW_SHOT, "", True), (FEW_SHOT, "tuned", False), ("", "", False), ("", "tuned", True)],
    }


def test_what_is_computed_as_soon_as_found_is_not_pinned() -> None:
    prompts = [task_prompt(Task("a", beginning + "{{text}}"), "") for beginning in (FEW_SHOT, "")]
    assert len(pins(prompts, prompt_format("glm4"), ByteTokenizer())) == 1


async def test_an_engine_that_has_loaded_gets_its_pins_before_any_request() -> None:
    prompt = PinnedPrompt((Message(Role.USER, FEW_SHOT),), "tuned")
    form = prompt_format("chatglm2")
    engine = ScriptedEngine()
    host = ModelHost(engine, ByteTokenizer, pins=lambda tokenizer: pins([prompt], form, tokenizer))
    await host.start()
    (expected,) = pins([prompt], form, ByteTokenizer())
    assert engine.pins == [expected]
    assert expected.adapter == "tuned"


class NoRoles(ByteTokenizer):
    def special_id(self, piece: str) -> int:
        if piece.startswith("<|"):
            raise KeyError(piece)
        return super().special_id(piece)


def test_a_format_whose_tokens_the_vocabulary_lacks_is_reported_when_the_model_loads() -> None:
    """It was a 500 for every request."""
    with pytest.raises(ValueError, match=r"no token '<\|user\|>'"):
        pins((), prompt_format("chatglm3"), NoRoles())
    assert pins((), prompt_format("chatglm2"), NoRoles()) == []
