"""``docs/settings.md``, made from the fields of ``Settings``."""

from enum import Enum

import click
from pydantic.fields import FieldInfo

from server.settings import Settings, flag_name, variable_name

_HEAD = """\
# Settings

<!-- Made by `make docs` from server/settings.py. -->

A setting comes from the first of these that has it:

1. the flag of `glmserve serve`, `glmserve doctor` or `glmserve chat MODEL`,
2. the environment variable; an empty one counts as unset, and several names are separated by commas,
3. the key in the TOML file: the one that `--config FILE` names, or else `GLMSERVE_CONFIG`, or else `./glmserve.toml`
   where there is one,
4. the default.

A key or a `GLMSERVE_…` variable that is no setting is an error, as is a value that a setting cannot have.

| flag | variable | key | default | what it sets |
| --- | --- | --- | --- | --- |
"""


def settings_page() -> str:
    """Return the page."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    flag = "MODEL" if name == "model" else flag_name(name)
    names = " | ".join(f"`{spelling}`" for spelling in (flag, variable_name(name), name))
    return f"| {names} | {_default(field)} | {field.description}{_choices(field)} |\n"


def _default(field: FieldInfo) -> str:
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if field.is_required() or value in ("", ()):
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _choices(field: FieldInfo) -> str:
    kind = field.annotation
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return ""
    return " One of " + ", ".join(f"`{member.value}`" for member in kind) + "."


if __name__ == "__main__":
    click.echo(settings_page(), nl=False)
