"""The public description of a task, as JSON."""

from typing_extensions import TypedDict

from glmserve.chat.tasks.task import Task, Words


class WordsObject(TypedDict):
    """A text for people in two languages."""

    zh: str
    en: str


class SlotObject(TypedDict):
    """A variable of a task, required unless it has a default."""

    name: str
    description: WordsObject
    example: str
    default: str | None


class TaskObject(TypedDict):
    """A task; a message to it fills its main slot."""

    id: str
    title: WordsObject
    description: WordsObject
    slots: list[SlotObject]
    main_slot: str | None


def task_card(task: Task) -> TaskObject:
    """Return the public description of ``task``."""
    return {
        "id": task.id,
        "title": _words(task.title),
        "description": _words(task.description),
        "slots": [
            {
                "name": slot.name,
                "description": _words(slot.description),
                "example": slot.example,
                "default": slot.default,
            }
            for slot in task.slots
        ],
        "main_slot": task.main,
    }


def _words(words: Words) -> WordsObject:
    return {"zh": words.zh, "en": words.en}
