"""``docs/settings.md``, made from the fields of the settings."""

from collections.abc import Iterable, Mapping
from enum import Enum

import click
from pydantic.fields import FieldInfo

from glmserve.config.loader import flag_name, variable_name
from glmserve.config.schema import FLAGS, SHARED, ModelSettings, Settings, VariantSettings

_HEAD = """\
# Settings

<!-- Made by `make docs` from server/config/schema.py. -->

A setting comes from the first of these that has it:

1. the flag of `glmserve serve`, `glmserve doctor` or `glmserve chat MODEL`,
2. the environment variable; an empty one counts as unset, and several names are separated by commas,
3. the key in the TOML file: the one that `--config FILE` names, or else `GLMSERVE_CONFIG`, or else `./glmserve.toml`
   where there is one,
4. the default.

A `[[models]]` table of the file overrides all of them for its model. An unknown key, an unknown `GLMSERVE_…` variable
and an invalid value are errors. Relative paths start at the current folder.

## The server and its one model

`--model-name`, `--alias`, `--lora`, `--prefix` and `--pin` apply to the one model; with several models they are an
error.

"""
_COLUMNS = "| flag | variable | key | default | what it sets |\n| --- | --- | --- | --- | --- |\n"
_SHARED = """
## Every model

For all models, or as a key of the `[[models]]` table of one.

"""
_TABLES = """
## Tables

`[[models]]`, one for each model. It has these keys and all keys of "Every model". [serving.md](serving.md) has
examples.

"""
_VARIANTS = """
`[[models.variants]]`, one for each adapter of the model above it:

"""
_OWN_FLAGS = {"model": "MODEL", "hub": "pull --from"}
_TABLE_COLUMNS = "| key | what it sets |\n| --- | --- |\n"


def settings_page() -> str:
    """Return the page."""
    own = [name for name in FLAGS if name not in SHARED]
    shared = [name for name in FLAGS if name in SHARED]
    table = {name: field for name, field in ModelSettings.model_fields.items() if name not in SHARED}
    return "".join(
        (
            _HEAD, _COLUMNS, _rows(own), _SHARED, _COLUMNS, _rows(shared),
            _TABLES, _TABLE_COLUMNS, _keys(table), _VARIANTS, _TABLE_COLUMNS, _keys(VariantSettings.model_fields),
        )
    )  # fmt: skip


def _rows(names: Iterable[str]) -> str:
    return "".join(_row(name, Settings.model_fields[name]) for name in names)


def _keys(fields: Mapping[str, FieldInfo]) -> str:
    return "".join(f"| `{name}` | {field.description} |\n" for name, field in fields.items())


def _row(name: str, field: FieldInfo) -> str:
    flag = _OWN_FLAGS.get(name) or flag_name(name)
    names = " | ".join(f"`{spelling}`" for spelling in (flag, variable_name(name), name))
    return f"| {names} | {_default(field)} | {field.description}{_choices(field)} |\n"


def _default(field: FieldInfo) -> str:
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if field.is_required() or value in (None, "", ()):
        return ""
    value = ",".join(value) if isinstance(value, tuple) else value
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _choices(field: FieldInfo) -> str:
    kind = field.annotation
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return ""
    return " One of " + ", ".join(f"`{member.value}`" for member in kind) + "."


if __name__ == "__main__":
    click.echo(settings_page(), nl=False)
