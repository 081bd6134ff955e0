"""``docs/settings.md`` and ``docs/zh/settings.md``, made from the fields of the settings."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import click
from pydantic.fields import FieldInfo

from glmserve.config.chinese import ADAPTER_KEYS, MODEL_KEYS, SETTINGS
from glmserve.config.loader import flag_name, variable_name
from glmserve.config.schema import FLAGS, OF_CLUSTER, SHARED, AdapterSettings, ModelSettings, Settings


@dataclass(frozen=True, slots=True)
class _Words:
    """The fixed text of the page in one language, and the descriptions of the settings."""

    head: str
    columns: str
    shared: str
    tables: str
    adapters: str
    table_columns: str
    one_of: str
    settings: Mapping[str, str]
    model_keys: Mapping[str, str]
    adapter_keys: Mapping[str, str]


def _described(fields: Mapping[str, FieldInfo]) -> Mapping[str, str]:
    return {name: field.description or "" for name, field in fields.items()}


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
_ADAPTERS = """
`[[models.variants]]`, one for each adapter of the model above it:

"""
_ENGLISH = _Words(
    _HEAD, _COLUMNS, _SHARED, _TABLES, _ADAPTERS, "| key | what it sets |\n| --- | --- |\n", " One of {}.",
    _described(Settings.model_fields), _described(ModelSettings.model_fields), _described(AdapterSettings.model_fields),
)  # fmt: skip
_OWN_FLAGS = {
    "model": "MODEL",
    "hub": "pull --from",
    **{name: f"cluster {flag_name(name)}" for name in OF_CLUSTER},
}


_CHINESE = _Words(
    """\
# 设置

<!-- 由 `make docs` 从 server/config/schema.py 和 server/config/chinese.py 生成。 -->

一个设置取下面第一个写了它的地方：

1. `glmserve serve`、`glmserve doctor` 或 `glmserve chat MODEL` 的命令行参数，
2. 环境变量；为空等于没有设，几个名字用逗号分隔，
3. TOML 文件里的键：`--config FILE` 指定的，其次 `GLMSERVE_CONFIG` 指定的，再次是 `./glmserve.toml`（如果有），
4. 默认值。

文件里 `[[models]]` 表对其模型的规定优先于这一切。未知的键、未知的 `GLMSERVE_…` 变量和不能取的值都是错误。\
相对路径从当前目录算起。

## 服务和它的唯一模型

`--model-name`、`--alias`、`--lora`、`--prefix` 和 `--pin` 用于唯一的模型；有几个模型时它们是错误。

""",
    "| 参数 | 变量 | 键 | 默认值 | 作用 |\n| --- | --- | --- | --- | --- |\n",
    """
## 每个模型

用于所有模型，或作为一个模型的 `[[models]]` 表的键。

""",
    """
## 表

`[[models]]`，每个模型一个。它有下面的键，以及“每个模型”的所有键。例子见[部署](serving.md)。

""",
    """
`[[models.variants]]`，它上面那个模型的每个适配器一个：

""",
    "| 键 | 作用 |\n| --- | --- |\n",
    "可取 {}。",
    SETTINGS,
    MODEL_KEYS,
    ADAPTER_KEYS,
)


def settings_page(language: str = "en") -> str:
    """Return the page in English, or with "zh" in Chinese."""
    words = _CHINESE if language == "zh" else _ENGLISH
    own = [name for name in FLAGS if name not in SHARED]
    shared = [name for name in FLAGS if name in SHARED]
    table = [name for name in ModelSettings.model_fields if name not in SHARED]
    return "".join(
        (
            words.head, words.columns, _rows(own, words), words.shared, words.columns, _rows(shared, words),
            words.tables, words.table_columns, _keys(table, words.model_keys), words.adapters, words.table_columns,
            _keys(AdapterSettings.model_fields, words.adapter_keys),
        )
    )  # fmt: skip


def _rows(names: Iterable[str], words: _Words) -> str:
    return "".join(_row(name, Settings.model_fields[name], words) for name in names)


def _keys(names: Iterable[str], described: Mapping[str, str]) -> str:
    return "".join(f"| `{name}` | {described[name]} |\n" for name in names)


def _row(name: str, field: FieldInfo, words: _Words) -> str:
    flag = _OWN_FLAGS.get(name) or flag_name(name)
    names = " | ".join(f"`{spelling}`" for spelling in (flag, variable_name(name), name))
    return f"| {names} | {_default(field)} | {words.settings[name]}{_choices(field, words)} |\n"


def _default(field: FieldInfo) -> str:
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if field.is_required() or value in (None, "", ()):
        return ""
    value = ",".join(value) if isinstance(value, tuple) else value
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _choices(field: FieldInfo, words: _Words) -> str:
    kind = field.annotation
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return ""
    comma = "、" if words is _CHINESE else ", "
    return words.one_of.format(comma.join(f"`{member.value}`" for member in kind))


if __name__ == "__main__":
    click.echo(settings_page(*sys.argv[1:]), nl=False)
