"""The judgement of answers by the examples of a task: right fields, accuracy, confusion. Pure.

An answer has fields: the values of a JSON object, or the lines that begin with a name and a colon, or the whole text.
``docs/tasks.md`` describes how each kind of field is compared.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

WHOLE = "answer"
"""Name of the only field of an answer without named ones."""

Values = tuple[str, ...]
"""The value of a field; one text, or the members of a set or a list."""

_SEPARATOR = re.compile(r"[、，；,;\n]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


class FieldKind(str, Enum):
    """How a field is compared with the right one."""

    LABEL = "label"
    """One of few words, equal; counted in a confusion table."""
    EXACT = "exact"
    """Equal."""
    NUMBER = "number"
    """Equal as a number."""
    SET = "set"
    """The same members in any order."""
    LIST = "list"
    """The same members in the same order."""
    TEXT = "text"
    """Present; and each text of the example occurs in it."""


@dataclass(frozen=True, slots=True)
class AnswerField:
    """A field of the answer that is judged."""

    name: str
    kind: FieldKind


@dataclass(frozen=True, slots=True)
class Example:
    """Values of the variables, and the right fields of the answer; a field that is not in it is not judged."""

    variables: Mapping[str, str]
    right: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class FieldVerdict:
    """One field of one answer; ``answered`` is None where the answer does not have it."""

    field: AnswerField
    right: Values
    answered: Values | None

    @property
    def is_right(self) -> bool:
        """Whether the field has the right value."""
        return self.answered is not None and _agree(self.field.kind, self.right, self.answered)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer."""

    answer: str
    fields: tuple[FieldVerdict, ...]

    @property
    def is_right(self) -> bool:
        """Whether all fields are right."""
        return all(field.is_right for field in self.fields)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each right label was answered with which; ``""`` is an answer without the field."""

    right: tuple[str, ...]
    answered: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row for each right label."""


@dataclass(frozen=True, slots=True)
class FieldScore:
    """One field of all answers."""

    field: AnswerField
    right: int
    of: int
    confusion: Confusion | None
    """Of a label."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """All answers of a task."""

    verdicts: tuple[Verdict, ...]
    fields: tuple[FieldScore, ...]

    @property
    def accuracy(self) -> float:
        """The share of fields that are right."""
        return _share(sum(score.right for score in self.fields), sum(score.of for score in self.fields))

    @property
    def all_right(self) -> float:
        """The share of answers that are right in all fields."""
        return _share(sum(verdict.is_right for verdict in self.verdicts), len(self.verdicts))


def judge(fields: Sequence[AnswerField], examples: Sequence[Example], answers: Sequence[str]) -> Judgement:
    """Compare an answer to each of ``examples`` with the right one."""
    verdicts = tuple(_verdict(fields, *pair) for pair in zip(examples, answers, strict=True))
    return Judgement(verdicts, tuple(filter(None, (_score(field, verdicts) for field in fields))))


def read_fields(fields: Sequence[AnswerField], answer: str) -> Mapping[str, Values]:
    """Return the values of ``fields`` in ``answer``, as far as it has them."""
    kinds = {field.name: field.kind for field in fields}
    read = {WHOLE: [answer]} if list(kinds) == [WHOLE] else _of_json(answer) or _of_lines(fields, answer)
    return {name: values_of(kinds[name], values) for name, values in read.items() if name in kinds}


def values_of(kind: FieldKind, given: str | Sequence[str]) -> Values:
    """Return the value of a field from one text, which is split for sets and lists, or from several."""
    several = [given] if isinstance(given, str) else given
    if kind in (FieldKind.SET, FieldKind.LIST) and len(several) == 1:
        several = _SEPARATOR.split(several[0])
    return tuple(value.strip() for value in several if value.strip())


def number(text: str) -> Decimal | None:
    """Return the number that ``text`` is; with full-width digits and commas between thousands, too."""
    plain = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text).strip())
    return Decimal(plain) if _NUMBER.fullmatch(plain) else None


def _verdict(fields: Sequence[AnswerField], example: Example, answer: str) -> Verdict:
    read = read_fields(fields, answer)
    judged = (field for field in fields if field.name in example.right)
    return Verdict(
        answer, tuple(FieldVerdict(field, example.right[field.name], read.get(field.name)) for field in judged)
    )


def _score(field: AnswerField, verdicts: Sequence[Verdict]) -> FieldScore | None:
    found = [one for verdict in verdicts for one in verdict.fields if one.field == field]
    if not found:
        return None
    confusion = _confusion(found) if field.kind is FieldKind.LABEL else None
    return FieldScore(field, sum(one.is_right for one in found), len(found), confusion)


def _confusion(verdicts: Sequence[FieldVerdict]) -> Confusion:
    counts = Counter((_label(one.right), _label(one.answered)) for one in verdicts)
    right = tuple(dict.fromkeys(label for label, _ in counts))
    others = dict.fromkeys(label for _, label in counts if label not in right)
    answered = (*right, *others)
    return Confusion(right, answered, tuple(tuple(counts[row, column] for column in answered) for row in right))


def _label(values: Values | None) -> str:
    return " ".join(values or ())


def _agree(kind: FieldKind, right: Values, answered: Values) -> bool:
    if kind is FieldKind.TEXT:
        said = " ".join(answered)
        return bool(said) and all(part in said for part in right)
    if kind is FieldKind.SET:
        return set(right) == set(answered)
    if kind is FieldKind.NUMBER:
        return [number(value) for value in right] == [number(value) for value in answered]
    return right == answered


def _of_json(answer: str) -> dict[str, list[str]] | None:
    try:
        read = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict):
        return None
    return {name: texts_of(value) for name, value in read.items()}


def texts_of(value: object) -> list[str]:
    """Return the items of a list, or a single value, as texts: as they are, or else as JSON."""
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, sort_keys=True) for item in items]


def _of_lines(fields: Sequence[AnswerField], answer: str) -> dict[str, list[str]]:
    """Return the texts behind ``NAME:``, up to the next one; ``NAME1:``, ``NAME2:`` are several of one field."""
    names = "|".join(re.escape(field.name) for field in fields)
    begins = list(re.finditer(rf"^[ \t]*({names})(?:[ \t]*[0-9]+)?[ \t]*[:：]", answer, re.MULTILINE))
    read: dict[str, list[str]] = {}
    for begin, end in zip(begins, _ends(begins, len(answer)), strict=True):
        read.setdefault(begin[1], []).append(answer[begin.end() : end].strip())
    return read


def _ends(begins: Sequence[re.Match[str]], length: int) -> Iterator[int]:
    yield from (begin.start() for begin in begins[1:])
    if begins:
        yield length


def _share(part: int, of: int) -> float:
    return part / of if of else 0.0
