"""The commands in Chinese, where the user's locale is: help texts, and the messages of the commands."""

from collections.abc import Iterable, Mapping
from copy import copy
from types import MappingProxyType

import click

from glmserve.cli.texts.formatter import WORDS, Bounded, cells
from glmserve.cli.texts.phrases import SAID
from glmserve.config.chinese import SETTINGS, speaks_chinese

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "serve": (
            "通过 HTTP 提供模型。",
            "通过 HTTP 提供每个 MODEL：.gguf 文件、检查点目录或已知模型的名字。不写 MODEL 时提供内置的演示模型。\n\n"
            "没有写模型的请求由第一个 MODEL 回答。检查点目录转换一次并缓存。名字也可以是 TOML 文件里一个 "
            "[[models]] 表的名字。\n\n"
            "每个设置可以是命令行参数、方括号里的环境变量，或 TOML 文件的键"
            "（参数名，用下划线）；取其中第一个写了的。",
        ),
        "cluster": (
            "在 Ray 集群上提供模型。",
            "在 Ray 集群上提供每个 MODEL：API 加上引擎副本，放在有位置的机器上。\n\n"
            "需要每台机器上都有附加组件 ray：pip install 'glmserve[ray]'。MODEL 和设置与 `serve` 相同。"
            "其中的路径在每台机器上必须是同样的文件。没有 --detach 时，按 Ctrl-C 结束应用。",
        ),
        "convert": (
            "把检查点目录转换成 GGUF 文件。",
            "把检查点目录 SOURCE 转换成 GGUF 文件。\n\n"
            "SOURCE 含有 config.json、分词器和权重（safetensors 或 .bin 分片）。也可以是模型仓库缓存里的目录，或只有"
            "一个检查点的目录。LoRA 适配器和 P-Tuning 前缀转换成小文件，与其模型一起提供。输出完整"
            "之后才得到最终的名字。",
        ),
        "pull": (
            "下载模型并转换，供 serve 使用。",
            "从模型仓库下载 MODEL，转换后放进缓存，供 `serve` 使用。\n\n"
            "MODEL 是已知模型的名字，或任何可以转换的检查点仓库 OWNER/NAME。只下载需要的文件，放进模型仓库自己的缓存。"
            "私有仓库用 `hf auth login` 的登录或 HF_TOKEN，ModelScope（魔搭）用 MODELSCOPE_API_TOKEN。HF_ENDPOINT 指定 "
            "Hugging Face 的镜像。",
        ),
        "list": ("列出本机的模型。", "列出转换好的模型，以及模型仓库缓存里已知模型的检查点。"),
        "chat": (
            "与服务或模型对话。",
            "与正在运行的服务对话，或与 MODEL 对话，它只为这次对话加载。\n\n"
            "MODEL 和设置与 `serve` 相同；有 --url 时，--api-key 是那个服务的密钥。/help 列出对话中的命令。输入或输出"
            "不是终端时，每行输入是一个问题；有问题没得到回答时，退出状态为 1。",
        ),
        "task": (
            "对一段文本运行任务（存好的提示词）。",
            "对 TEXT 运行 TASK；- 表示从标准输入读 TEXT。\n\n"
            "\b\nglmserve task intent 明天妈妈过生日\nglmserve task news - < item.txt\n"
            'glmserve task style 雨天 --var examples="$(cat e.txt)"\n'
            "glmserve task review --check --min-accuracy 0.9\n"
            "glmserve task review --lines < in.jsonl > out.jsonl\n\n"
            "任务在正在运行的服务上运行，或在 --model 上运行，它只为这次调用加载。设置与 `serve` 相同；--api-key 是"
            "正在运行的服务的密钥。TEXT 是没有默认值的那个变量的值；--var 设置任何变量。",
        ),
        "batch": (
            "让服务回答一个文件里的请求。",
            "服务没有别的事时，回答 FILE 里的请求，每行一个。\n\n"
            "每行是 OpenAI 批量任务的一行。输出文件里是回答，失败的请求在 .errors.jsonl 文件里。被中断的命令"
            "再次调用时，继续等同一个批量任务。",
        ),
        "bench": (
            "测量正在运行的服务。",
            "测量正在运行的服务：首 token 时间、每个输出 token 的时间、吞吐量、缓存的份额。\n\n"
            "负载：`single` 一个客户端；`own` 每个客户端的提示词不同；`shared` 所有客户端共用一个长提示词，先不在缓存"
            "里，然后在缓存里；`turns` 每次发送全部历史的对话；`arriving` 别的回答正在流式输出时到来的长提示词；"
            "`many` 64 个客户端同时。\n\n"
            "TTFT 是首 token 时间，TPOT 是其后每个 token 的时间，ITL 是一个回答的两段之间最长的停顿。",
        ),
        "inspect": (
            "说明一个模型文件是什么、是否正确。",
            "说明 MODEL 是什么、会怎样提供、文件是否正确。\n\n"
            "MODEL 是 GGUF 文件、检查点目录或名字，与 `serve` 相同。报告有一句问候的提示词和 token 编号、使回答结束的 "
            "token，以及中文、英文各一段文字的困惑度。退出状态 1：文件有问题。",
        ),
        "doctor": (
            "检查本机、安装和模型。",
            "显示安装、设备和模型文件，以及用这些设置 `serve MODEL` 会怎样运行。\n\n"
            "有 MODEL 不能提供时，退出状态为 1。不写 MODEL 时检查 TOML 文件里的模型，没有时检查内置的。",
        ),
        "cache": (
            "显示或清除本机保存的提示词。",
            "显示保存了多少提示词和回答，或清除它们。\n\n"
            "clear 删除保存的提示词和固定前缀的状态。转换好的模型保留。正在运行的服务停止以前，内存里的仍然保留。",
        ),
        "build-llama": (
            "为本机编译 llama.cpp。",
            "为本机编译 llama.cpp，安装在现有的编译的位置。\n\n"
            "用于由 pip、pipx 或 uv 安装的情况，它们用自己的设置编译。这里只编译服务用到的部分，并修正带 AMX 的 Intel"
            " CPU 的问题。需要 C++ 编译器，用三到十分钟。",
        ),
        "completion": (
            "打印 shell 的补全脚本。",
            "打印补全命令、参数和模型名的 shell 代码。\n\n"
            '\b\n~/.bashrc：\n  eval "$(glmserve completion bash)"\n'
            '~/.zshrc，compinit 后：\n  eval "$(glmserve completion zsh)"\n'
            "~/.config/fish/config.fish：\n  glmserve completion fish | source",
        ),
    }
)
"""The summary and the help of each command."""

GROUP = "向 OpenAI 客户端和 /chatglm 的客户端提供 ChatGLM2-6B 及其同系列模型。"

EPILOGS: Mapping[str, str] = MappingProxyType(
    {
        "Types, with GB of ChatGLM2-6B:": "类型，以及 ChatGLM2-6B 的 GB：",
        "not quantised": "不量化", "close to f16": "接近 f16", "converts fastest": "转换最快",
        "smallest, and worse": "最小，也更差", "Families: ": "系列：",
    }
)  # fmt: skip
"""Parts of the text below the options."""

OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "TOML file with settings.": "设置的 TOML 文件。",
        "Address of the cluster; without one the cluster of this machine, or a new one.":
            "集群的地址；不写时用本机的集群，没有就新建一个。",
        "Return once it is ready, and leave it running.": "就绪后返回，让它继续运行。",
        "File to write, folder for it, or - for standard output.": "要写的文件、放它的目录，或 -（标准输出）。",
        "Replace a file that was converted from another source.": "替换由别的来源转换的文件。",
        "Type of the weights.": "权重的类型。",
        "Threads for quantisation.": "量化用的线程数。",
        "Model family of the checkpoint.": "检查点的模型系列。",
        "Importance matrix of llama-imatrix (.gguf or .dat), which quantises important columns more exactly.":
            "llama-imatrix 的重要性矩阵（.gguf 或 .dat），重要的列量化得更精确。",
        "Folder of a LoRA adapter (PEFT) to merge into the weights.": "要合并进权重的 LoRA 适配器（PEFT）的目录。",
        "Check the written file: its tensors, its tokenizer, and that llama.cpp can run it.":
            "检查写好的文件：张量、分词器，以及 llama.cpp 能否运行它。",
        "Print the result as JSON.": "以 JSON 打印结果。",
        "Model hub.": "模型仓库。",
        "Branch, tag or commit.": "分支、标签或提交。",
        "Do not use the network: convert the files that are already downloaded.": "不用网络：转换已经下载的文件。",
        "Replace a file that was converted from another checkpoint.": "替换由别的检查点转换的文件。",
        "Print the file as JSON, as `list` does.": "以 JSON 打印这个文件，与 `list` 相同。",
        "Print the list as JSON.": "以 JSON 打印列表。",
        "URL of a running server.": "正在运行的服务的 URL。",
        "Show tokens and times after each answer.": "每个回答之后显示 token 数和时间。",
        "Keep the input history between sessions.": "保留各次会话的输入历史。",
        "Value of a variable of the task; repeatable.": "任务的一个变量的值；可重复。",
        "List the tasks of the settings, or of the server at --url.": "列出设置里的任务，或 --url 处服务的任务。",
        "Show all options in full.": "显示全部选项和完整的说明。",
        "Print JSON.": "打印 JSON。",
        "Run each line of standard input, as a batch of the server.": "运行标准输入的每一行，作为服务的批量任务。",
        "With --lines: begin again, although there is a batch of the same input.":
            "与 --lines 一起：重新开始，即使同一输入已有批量任务。",
        "Where to write the output; - is standard output.  [default: FILE with .output.jsonl]":
            "输出写到哪里；- 是标准输出。  [默认：FILE 加 .output.jsonl]",
        "Replace output files that exist.": "替换已有的输出文件。",
        "Begin a new batch, although there is one of the same input.": "开始新的批量任务，即使同一输入已有一个。",
        "Cancel the batch of FILE, and keep what was answered.": "取消 FILE 的批量任务，保留已回答的。",
        "Time for the whole batch: N with s, m, h or d.": "整个批量任务的时间：N 加 s、m、h 或 d。",
        "URL of the running server.": "正在运行的服务的 URL。",
        "Key for the server.  [env: GLMSERVE_API_KEY]": "服务的密钥。  [环境变量：GLMSERVE_API_KEY]",
        "Run the examples of the task, and judge the answers.": "运行任务的示例，并评判回答。",
        "Fail if a smaller share of fields is right, from 0 to 1; implies --check.":
            "正确字段的比例（0 到 1）低于它时退出状态为 1；包含 --check。",
        "Model to load for this task, as for serve; with --url, the model that runs it.":
            "为这个任务加载的模型，同 serve；有 --url 时，是运行它的模型。",
        "URL of the server to measure.": "要测量的服务的 URL。",
        "API key, if the server requires one.": "API 密钥，如果服务要求。",
        "Model to measure.": "要测量的模型。",
        "Workload to run; repeatable.": "要运行的负载；可重复。",
        "Number of concurrent clients.": "同时的客户端数。",
        "Tokens per answer.": "每个回答的 token 数。",
        "Seed of the prompts, to repeat a run.": "提示词的种子，用来重复一次运行。",
        "Print the figures as JSON.": "以 JSON 打印数据。",
        "Load the model and let it read two paragraphs.": "加载模型，让它读两段文字。",
        "Format of prompts, where the file names none.": "提示词的格式，文件没有写明时用。",
        "Chat template of prompts, as for `serve`.": "提示词的聊天模板，与 `serve` 相同。",
        "Print the report as JSON.": "以 JSON 打印报告。",
        "Load each model and check its outputs as the engine does.": "加载每个模型，像引擎那样检查它的输出。",
        "Build for NVIDIA GPUs; needs the CUDA toolkit.": "为 NVIDIA GPU 编译；需要 CUDA 工具包。",
        "More arguments for CMake.": "CMake 的更多参数。",
        "Print the command and run nothing.": "打印命令，什么也不运行。",
        "Show the version and exit.": "显示版本并退出。",
        "Show this message and exit.": "显示这个说明并退出。",
    }
)  # fmt: skip
"""Help of the options that are no settings, without the part in brackets."""


def say(text: str, **values: object) -> str:
    """Return ``text`` with its values, in the user's language."""
    return (SAID.get(text, text) if speaks_chinese() else text).format(**values)


def localized(command: click.Command) -> click.Command:
    """Return ``command`` with its help for any window, in Chinese where that is the user's language."""
    command = copy(command)
    command.context_class = _Chinese if speaks_chinese() else _English
    if not speaks_chinese():
        return command
    command.params = [copy(parameter) for parameter in command.params]
    command.help = COMMANDS[command.name][1] if command.name and command.name in COMMANDS else GROUP
    for english, chinese in EPILOGS.items():
        command.epilog = command.epilog and command.epilog.replace(english, chinese)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            parameter.help = translated(parameter.name or "", parameter.help)
    return command


def translated(name: str, text: str) -> str:
    """Return the help of the option called ``name`` in Chinese; in English where it has none."""
    from glmserve.config.schema import Settings  # noqa: PLC0415 - the list of commands does without pydantic

    field = Settings.model_fields.get(name)
    if name in SETTINGS and field is not None and field.description and text.startswith(field.description):
        return SETTINGS[name] + _in_brackets(text[len(field.description) :])
    known = next((known for known in sorted(OPTIONS, key=len, reverse=True) if text.startswith(known)), "")
    return OPTIONS[known] + _in_brackets(text[len(known) :]) if known else text


def _in_brackets(text: str) -> str:
    for english, chinese in _BRACKETS:
        text = text.replace(english, chinese)
    return text


_BRACKETS = (
    ("default: ", "默认："), ("all cores", "所有的核"),
    ("q4_k_m; q8_0 for embedding models and rerankers", "q4_k_m；向量模型和重排模型为 q8_0"),
    ("the main branch", "主分支"),
    ("./glmserve.toml if it exists", "./glmserve.toml（如果有）"), ("detected from the folder", "由目录判断"),
    ("set by the workload", "由负载决定"), ("new prompts", "新的提示词"), ("the first one", "第一个"),
    (", unless MODEL is given", "，除非写了 MODEL"), (", unless --model is given", "，除非写了 --model"),
    ("NAME-OF-SOURCE.TYPE.gguf in the current folder", "当前目录里的 来源名.类型.gguf"), ("：all]", "：全部]"),
    ("：yes]", "：是]"), ("：no]", "：否]"),
)  # fmt: skip


def formatter(ctx: click.Context) -> click.HelpFormatter:
    """Return the formatter of help in the user's language."""
    kind = _Formatter if speaks_chinese() else Bounded
    return kind(width=ctx.terminal_width, max_width=ctx.max_content_width)


def wrapped(text: str, columns: int) -> str:
    """Break lines where the terminal would: a Chinese character is two columns wide, and needs no blank to break."""
    lines, line, taken = [], "", 0
    for word in WORDS.findall(text):
        size = cells(word)
        if taken + size > columns and line.strip():
            lines.append(line.rstrip())
            line, taken = "", 0
        line, taken = (line + word, taken + size) if line or word != " " else ("", 0)
    return "\n".join([*lines, line.rstrip()])


class _Formatter(Bounded):
    """click's help in Chinese."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the line of the usage."""
        prefix = prefix or "用法："
        wider = cells(prefix) - len(prefix)
        self.width -= wider
        super().write_usage(prog, args, prefix)
        self.width += wider

    def write_heading(self, heading: str) -> None:
        """Write a heading."""
        super().write_heading({"Options": "选项", "Commands": "命令"}.get(heading, heading))

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        columns = self.width - self.current_indent
        paragraphs = (part if part.startswith("\b") else f"\b\n{wrapped(part, columns)}" for part in text.split("\n\n"))
        super().write_text("\n\n".join(paragraphs))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of options or commands."""
        super().write_dl([(name, OPTIONS.get(text, text)) for name, text in rows], col_max, col_spacing)

    def described(self, text: str, columns: int) -> str:
        """Return a description in lines of at most ``columns``."""
        return f"\b\n{wrapped(text, columns)}"


class _English(click.Context):
    formatter_class = Bounded


class _Chinese(click.Context):
    formatter_class = _Formatter
