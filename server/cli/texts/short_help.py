"""Help of one screen: the options that most people need, a line each; ``--help-all`` has everything."""

import re
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from types import MappingProxyType

import click

from glmserve.cli.texts.chinese import say, translated
from glmserve.config.chinese import speaks_chinese

LINES = 24
"""Of a screen, the line of the prompt included."""
_COLUMNS = 80
_ALL = "glmserve.help_all"
_COMMON: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "serve": ("host", "port", "api_key_file", "quant", "context", "parallel", "device", "model_name", "alias",
                  "lora", "prompts", "config", "cache_dir"),
        "cluster": ("ray_address", "detach", "host", "port", "api_key_file", "replicas", "replica_cpus", "replica_gpus",
                    "parallel", "device", "config", "cache_dir"),
        "chat": ("url", "stats", "history", "quant", "context", "device", "lora", "api_key", "config", "cache_dir"),
        "task": ("variables", "as_list", "as_check", "as_lines", "as_json", "url", "model"),
        "doctor": ("as_json", "tests", "quant", "context", "parallel", "device", "config", "cache_dir"),
    }
)  # fmt: skip
"""Options in the help of each command that takes all settings."""
_SHORT: Mapping[str, str] = MappingProxyType(
    {
        "api_key_file": "File of API keys.",
        "quant": "Weight type of a checkpoint: q4_k_m, q8_0, f16, and others.",
        "context": "Context length in tokens, prompt and answer together.",
        "parallel": "Maximum number of requests computed at once.",
        "device": "Device that runs the model: auto, cpu or cuda.",
        "alias": "Another name for the model, such as gpt-3.5-turbo.",
        "lora": "Also serve the model with this LoRA adapter.",
        "prompts": "Folder with your own tasks.",
        "config": "TOML file with settings.",
        "cache_dir": "Folder of converted models.",
        "api_key": "API key of the server.",
        "model_name": "Name of the one model in requests.",
    }
)
"""Texts of one line for settings whose description needs more."""
_SEPARATORS = (". ", "; ", ": ", ", ", " (", "。", "；", "：", "，")


class ShortHelp(click.Command):
    """A command whose help fits a screen."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all of the help if it fits a screen or was asked for, else the short one."""
        full = ctx.make_formatter()
        super().format_help(ctx, full)
        if ctx.meta.get(_ALL) or _lines(full) < LINES:
            formatter.write(full.getvalue())
            return
        paragraphs = cleandoc(self.help or "").split("\n\n")
        pages = (self._page(ctx, paragraphs[:count]) for count in range(len(paragraphs), 0, -1))
        formatter.write(next((page for page in pages if page.count("\n") < LINES), self._page(ctx, paragraphs[:1])))

    def _page(self, ctx: click.Context, paragraphs: Sequence[str]) -> str:
        page = ctx.make_formatter()
        self.format_usage(ctx, page)
        page.write_paragraph()
        with page.indentation():
            page.write_text("\n\n".join(paragraphs))
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option) and option.help]
        shown = [option for option in options if self._is_common(option)]
        names = [_name(option) for option in shown]
        room = min(_COLUMNS, page.width) - max(map(len, names)) - 6
        with page.section("Options"):
            page.write_dl([(name, _line(option, room)) for name, option in zip(names, shown, strict=True)])
        page.write_paragraph()
        page.write_text(say("{command} --help-all has all {count} options in full.", command=ctx.command_path,
                            count=len(options)))  # fmt: skip
        return page.getvalue()

    def _is_common(self, option: click.Option) -> bool:
        common = _COMMON.get(self.name or "")
        return common is None or option.name in common or "--help" in option.opts or option.name == "help_all"


def with_short_help(command: click.Command) -> click.Command:
    """Return ``command`` with a help of one screen."""
    made = ShortHelp(
        command.name,
        command.context_settings,
        command.callback,
        [*command.params, _help_all()],
        command.help,
        command.epilog,
    )
    made.context_class = command.context_class
    return made


def _help_all() -> click.Option:
    text = "Show all options in full."
    shown = translated("help_all", text) if speaks_chinese() else text
    return click.Option(["--help-all"], is_flag=True, is_eager=True, expose_value=False, help=shown, callback=_show_all)


def _show_all(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    ctx.meta[_ALL] = True
    click.echo(ctx.get_help())
    ctx.exit()


def _is_setting(option: click.Option) -> bool:
    from glmserve.config.schema import Settings  # noqa: PLC0415 - the list of commands does without pydantic

    return option.name in Settings.model_fields or option.name == "config"


def _lines(page: click.HelpFormatter) -> int:
    return page.getvalue().count("\n")


def _name(option: click.Option) -> str:
    """Return the flags and their values; of a choice or a range no more than its kind."""
    names = [*option.opts, *option.secondary_opts]
    flags = ", ".join(sorted(names, key=lambda name: name.startswith("--"))) if not option.secondary_opts else names[0]
    if option.is_flag or option.count:
        return flags
    if option.metavar:
        return f"{flags} {option.metavar}"
    kind = "INTEGER" if isinstance(option.type, click.types.IntParamType) else option.type.name.upper()
    return f"{flags} {'NAME' if isinstance(option.type, click.Choice) else kind}"


def _line(option: click.Option, room: int) -> str:
    """Return the beginning of the help that has room in a line."""
    from rich.cells import cell_len  # noqa: PLC0415 - as above

    text, _, bracket = (option.help or "").partition("  [")
    if option.name in _SHORT and _is_setting(option):
        text = say(_SHORT[option.name])
    default = re.search(r"(?:default: |默认：)([^\]]+)", bracket)
    with_default = f"{text}  [{default[1]}]" if default else text
    starts = (text.partition(mark)[0] + ("。" if mark in "。；：，" else ".") for mark in _SEPARATORS if mark in text)
    return next((one for one in (with_default, text, *starts) if cell_len(one) <= room), text)
