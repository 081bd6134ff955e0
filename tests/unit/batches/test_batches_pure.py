"""Order, states, lines and forms: the parts of batches without a disk or a model."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.api.openai.batches import window_seconds
from glmserve.api.openai.files import plain_name
from glmserve.batches.input_lines import MOST_PROBLEMS, InputCheck, output_line, unanswered_line
from glmserve.batches.prefix_order import in_prefix_order, prefix_key
from glmserve.batches.records import UNFINISHED, Batch, BatchStatus, WrongState
from glmserve.http.errors import InvalidRequest
from glmserve.http.multipart import Field, FileData, FileStart, FormParser, boundary_of

CHAT = "/v1/chat/completions"


def asked(*texts: str) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}


def test_prompts_with_one_beginning_stand_together_in_the_order_of_the_file() -> None:
    bodies = [asked("A" * 900, "1"), asked("B", "1"), asked("A" * 900, "2"), asked("C"), asked("B", "2")]
    assert in_prefix_order([prefix_key(body) for body in bodies]) == [0, 2, 1, 4, 3]
    texts = [{"prompt": "x" * 300 + end} for end in "abc"] + [{"prompt": "y"}, {"prompt": "x" * 300 + "d"}]
    assert in_prefix_order([prefix_key(body) for body in texts]) == [0, 1, 2, 4, 3]
    tasks = [{"prompt": {"id": name, "variables": {"text": str(n)}}} for n, name in enumerate("abab")]
    assert in_prefix_order([prefix_key(body) for body in tasks]) == [0, 2, 1, 3]


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["model", "messages", "prompt", "input", "instructions"]), Json)))
def test_each_line_has_one_place_whatever_its_body_is(bodies: list[dict[str, object]]) -> None:
    keys = [prefix_key(body) for body in bodies]
    order = in_prefix_order(keys)
    assert sorted(order) == list(range(len(bodies)))
    for length in (1, 2, 3):  # equal beginnings are never apart
        seen = [keys[index][:length] for index in order if len(keys[index]) >= length]
        assert len([a for a, b in zip(seen, [None, *seen], strict=False) if a != b]) == len(set(seen))


def batch(status: BatchStatus = BatchStatus.VALIDATING) -> Batch:
    return Batch(1, "batch_1", "", CHAT, "file-1", "24h", 0, 9, 9, status)


def test_a_batch_goes_through_its_states_and_no_others() -> None:
    done = batch()
    for time, status in enumerate((BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.COMPLETED)):
        assert not done.is_final
        done = done.moved(status, time)
    assert done.is_final
    assert done.times == {BatchStatus.IN_PROGRESS: 0, BatchStatus.FINALIZING: 1, BatchStatus.COMPLETED: 2}
    for status in BatchStatus:
        if status not in UNFINISHED:
            for other in BatchStatus:
                with pytest.raises(WrongState):
                    batch(status).moved(other, 0)
    with pytest.raises(WrongState):
        batch(BatchStatus.CANCELLING).moved(BatchStatus.IN_PROGRESS, 0)
    with pytest.raises(WrongState):
        batch().moved(BatchStatus.COMPLETED, 0)


def request(custom_id: str) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m"}}).encode()


@settings(deadline=None)
@given(st.integers(1, 9), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans(), st.booleans())
def test_lines_are_found_wherever_the_pieces_end(size: int, end: bytes, last: bool, mark: bool) -> None:
    lines = [request(f"{n}é") for n in range(4)]
    content = (b"\xef\xbb\xbf" if mark else b"") + end.join(lines) + (end if last else b"")
    check = InputCheck(CHAT, 1000)
    for start in range(0, len(content), size):
        check.feed(content[start : start + size])
    found = check.finish()
    assert check.problems == []
    assert check.model == "m"
    assert [content[one.start : one.start + one.length].strip() for one in found] == lines
    assert [one.custom_id for one in found] == ["0é", "1é", "2é", "3é"]


def test_an_endless_line_and_endless_faults_are_given_up() -> None:
    check = InputCheck(CHAT, 1000)
    for _ in range(3):
        check.feed(b"x" * 600)
    assert check.has_failed
    assert [one.code for one in check.problems] == ["line_too_long"]
    check = InputCheck(CHAT, 1000)
    check.feed(b"{}\n" * 10_000)
    check.finish()
    assert len(check.problems) == MOST_PROBLEMS
    assert check.problems[-1].line == MOST_PROBLEMS


def test_an_output_line_is_one_line_for_every_splitter() -> None:
    text = json.dumps({"a": "x\u2028y\x85z\n"}, ensure_ascii=False)
    for line in (output_line("i", "c\u2029", "r", 200, text), unanswered_line("i", "c\u2029", "e", "m")):
        assert len(line.decode().splitlines()) == 1
        assert json.loads(line)["custom_id"] == "c\u2029"
    assert json.loads(output_line("i", "c", "r", 200, text))["response"]["body"] == json.loads(text)


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86400), ("90m", 5400), ("30d", 2592000), ("1s", 1)])
def test_a_window_in_seconds(window: str, seconds: int) -> None:
    assert window_seconds(window) == seconds


@pytest.mark.parametrize("window", ["", "0h", "24", "h", "31d", "24h ", "1.5h", "-1h", "９h", "999999999d"])
def test_a_window_that_is_none(window: str) -> None:
    with pytest.raises(InvalidRequest):
        window_seconds(window)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("in.jsonl", "in.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\x00b\nc\u2028\x1b[31m", "abc[31m"),
        ("", "file.jsonl"),
        ("/", "file.jsonl"),
        ("名" * 300, "名" * 255),
    ],
)
def test_a_file_name_is_shown_without_folders_and_control_characters(given: str, kept: str) -> None:
    assert plain_name(given) == kept


def part(disposition: str, content: bytes) -> bytes:
    return b"--B\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


FORM = part('name="purpose"', b"batch") + part('name="file"; filename="名.jsonl"', b"\r\n--b\r\n-\r\n--") + b"--B--\r\n"


@settings(deadline=None)
@given(st.integers(1, len(FORM)))
def test_a_form_is_read_in_pieces_of_any_size(size: int) -> None:
    parser = FormParser(b"B")
    events = [event for start in range(0, len(FORM), size) for event in parser.feed(FORM[start : start + size])]
    assert parser.is_complete
    assert [event for event in events if not isinstance(event, FileData)] == [
        Field("purpose", "batch"),
        FileStart("file", "名.jsonl"),
    ]
    assert b"".join(event.data for event in events if isinstance(event, FileData)) == b"\r\n--b\r\n-\r\n--"


@pytest.mark.parametrize(
    "form",
    [
        b"--Bx\r\n",
        b"--B\r\n\r\n\r\n--B--",
        b"--B\r\n" + b"X: " + b"y" * 20_000,
        part('name="a"', b"x" * 100_000),
        b"".join(part('name="a"', b"") for _ in range(40)),
        b'--B\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n',
    ],
)
def test_a_form_that_is_none_is_refused(form: bytes) -> None:
    with pytest.raises(InvalidRequest):
        list(FormParser(b"B").feed(form))


FORM_DATA = "multipart/form-data"


@pytest.mark.parametrize(
    "header", ["", "application/json", FORM_DATA, f"{FORM_DATA}; boundary=", f"{FORM_DATA}; boundary={'x' * 80}"]
)
def test_a_content_type_without_a_boundary_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        boundary_of(header)
