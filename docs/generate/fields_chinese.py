"""The words of ``docs/zh/fields.md``: descriptions of fields in Chinese, by the English ones."""

import re
from collections.abc import Mapping
from types import MappingProxyType

HEAD = """\
# 请求的字段

<!-- 由 `make docs` 从检查请求的模型和表生成。 -->

每个字段属于下面的一种：

- **支持**：作用与 OpenAI（或 Anthropic）为这个或其他接口所写的一致。两者都没有的字段标为“扩展”，除非另有说明，与 vLLM 所写的一致；
- **忽略**：接受但不起作用，因为它不要求改变回答；
- **只接受默认值**：它会改变回答，而这里不支持。只接受所列的值，在对象或数组里面也一样。其他值被拒绝（400，\
`unsupported_parameter`），`param` 给出字段；
- **拒绝**：同上，而且没有可接受的值。

null、`""`、`{}` 和 `[]` 在后两种的每个字段里都接受，在对象里面也一样。表里没有的字段是未知的，会被忽略。应答的 \
`x-glmserve-ignored-fields` 头列出它们的名字（最多 32 个），日志里每个名字写一次。加上 `--strict-fields` 时，未知的字段被拒绝（400，\
`unknown_parameter`）。

`/openapi.json` 有同样的字段、取值和说明，服务的 `/docs` 页面显示它们。`POST /chatglm` 的字段见\
[从 api.py 迁移](migrating.md#从-apipy-迁移)。
"""
COLUMNS = "| 字段 | 处理 | 取值 | 说明 |\n| --- | --- | --- | --- |\n"
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "supported": "支持",
        "supported, required": "支持，必填",
        "ignored": "忽略",
        "default only": "只接受默认值",
        "rejected": "拒绝",
    }
)
_NOTES: Mapping[str, str] = MappingProxyType(
    {
        "### Of a message": "### 消息里的字段",
        "Unknown fields of a message are labels and are accepted.": "消息里未知的字段是标签，会被接受。",
        "`POST /v2/rerank` has the same fields.": "`POST /v2/rerank` 的字段相同。",
        "A body with `messages` has the fields of a chat, and `return_token_strs`.":
            "带 `messages` 的请求体有对话的字段，以及 `return_token_strs`。",
        "`POST /v1/responses/input_tokens` has the same fields.": "`POST /v1/responses/input_tokens` 的字段相同。",
    }
)  # fmt: skip
_VALUES = (
    ("array", "数组"), ("integer", "整数"), ("string", "字符串"), ("object", "对象"), ("number", "数"),
    ("boolean", "布尔值"), ("value", "值"), ("any", "任意"), ("length", "长度"), (" of ", "，元素为"), (" or ", " 或 "),
    (" to ", " 到 "),
)  # fmt: skip
_EXTENSIONS = (
    ("Extension (Zhipu's SDKs). ", "扩展（智谱的 SDK）。"), ("Extension (llama-server). ", "扩展（llama-server）。"),
    ("Extension (vLLM). ", "扩展（vLLM）。"), ("Extension. ", "扩展。"), ("Extension: ", "扩展："),
)  # fmt: skip

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Time for the whole batch: `24h`. Extension: any number of `s`, `m`, `h` or `d`, at most 30 days.":
            "整个批量任务的时间：`24h`。扩展：任意数目的 `s`、`m`、`h` 或 `d`，最多 30 天。",
        "Address that all lines are for.": "所有行的地址。",
        "Id of an uploaded file: JSONL, one request a line.": "已上传文件的 id：JSONL，每行一个请求。",
        "At most 16 strings, which the batch repeats.": "最多 16 个字符串，批量任务的应答会重复它们。",
        "Lifetime of the output files. Default: `--batch-file-days`.": "输出文件的期限。默认为 `--batch-file-days`。",
        "1 to 10000 texts, or objects with `text`.": "1 到 10000 个文本，或带 `text` 的对象。",
        "A document is one chunk.": "一个文档是一块。",
        "Xinference's client repeats its further fields there.": "Xinference 的客户端在这里重复它的其他字段。",
        "A response is generated only while its request is open.": "应答只在请求打开时生成。",
        "A string, or items: text messages, function calls and their outputs. Reasoning may be an item, item "
        "references are rejected.":
            "字符串，或条目：文本消息、函数调用及其输出。推理可以是一个条目，条目引用被拒绝。",
        "A text, or a list of at most 10000 texts.": "一个文本，或至多 10000 个文本的列表。",
        "A text, or as many texts as text_2 has. One text is paired with each of text_2.":
            "一个文本，或与 text_2 同样多的文本。一个文本与 text_2 的每一个配对。",
        "A text, several texts, token ids, or several arrays of token ids. Not a chat.":
            "一个或几个文本，一个或几个 token 编号的数组。不是对话。",
        "A text, token ids of this model, or an array of at most 2048 texts or arrays of ids.":
            "一个文本、这个模型的 token 编号，或至多 2048 个文本或编号数组的数组。",
        "At most 16 strings, which the response repeats.": "至多 16 个字符串，应答会重复它们。",
        "Bias to add to the logit of each token id (written as a string). -100 bans the token.":
            "加到各个 token 编号（写成字符串）的 logit 上的偏置。-100 禁止这个 token。",
        "Callable functions. Tools of other types are ignored; the header x-glmserve-ignored-tools names them.":
            "可调用的函数。其他类型的工具被忽略，由 x-glmserve-ignored-tools 头列出。",
        "Callers take turns.": "调用方轮流得到回答。",
        "ChatGLM3's example client sends it; its server ignores it, too; use tools.":
            "ChatGLM3 的示例客户端发送它，其服务也忽略它；请用 tools。",
        "Codex sends it to describe itself.": "Codex 用它描述自己。",
        "Custom tools that the model can call. Anthropic's own tools are ignored; the header x-glmserve-ignored-tools "
        "names them.": "模型可以调用的自定义工具。Anthropic 自己的工具被忽略，由 x-glmserve-ignored-tools 头列出。",
        "Documents that are too long are always truncated.": "太长的文档总是被截断。",
        "Events are never obfuscated.": "事件从不混淆。",
        "false: always select the most likely token.": "false：总是取最可能的 token。",
        "Add the engine's times to the reply, or to the last chunk.": "在应答或最后一块里加上引擎的时间。",
        "Stream chunks with prompt_progress before the first token: computed tokens of the prompt, queue position and "
        "expected wait.": "在第一个 token 之前发送带 prompt_progress 的块：提示词已计算的 token、队列里的位置和预计的等待。",
        "Variables for the chat template of the model's file, such as enable_thinking.":
            "模型文件的对话模板的变量，例如 enable_thinking。",
        "Drop tokens less likely than this fraction of the most likely token's probability.":
            "丢弃概率低于最可能 token 的这个比例的 token。",
        "Exactly one of json, regex, choice, grammar (Lark) and json_object.":
            "json、regex、choice、grammar（Lark）和 json_object 中恰好一个。",
        "Minimum number of tokens before an end token. A stop string still ends the answer.":
            "结束 token 之前至少有多少 token。停止串仍会结束回答。",
        "Older name of structured_outputs.choice.": "structured_outputs.choice 的旧名。",
        "Older name of structured_outputs.grammar.": "structured_outputs.grammar 的旧名。",
        "Older name of structured_outputs.json.": "structured_outputs.json 的旧名。",
        "Older name of structured_outputs.regex.": "structured_outputs.regex 的旧名。",
        "Only requests with the same salt share the cached prompt.": "只有盐相同的请求才共用缓存的提示词。",
        "Sample from the k most likely tokens. 0 and -1 disable the limit.": "从最可能的 k 个 token 里采样。0 和 -1 不限。",
        "The answer continues the last message. prefix or partial in that message do the same.":
            "回答续写最后一条消息。那条消息里的 prefix 或 partial 作用相同。",
        "Values above 1 make repeated tokens less likely; 1 has no effect.": "大于 1 时重复的 token 更不可能；1 不起作用。",
        "false is accepted only together with continue_final_message.": "false 只与 continue_final_message 一起接受。",
        "false: do not prepend the tokenizer's special tokens to a text.": "false：不在文本前加分词器的特殊 token。",
        "true: do not stop at an end token; generate up to the token limit.": "true：不在结束 token 处停止，一直生成到上限。",
        "false returns the numbers of the model's head. Default: their sigmoid, between 0 and 1.":
            "false 返回模型输出层的数。默认是它们的 sigmoid，在 0 和 1 之间。",
        "true scales vectors to length 1, false leaves them as the model computes them. Default: as the authors of the "
        "model do.": "true 把向量缩放到长度 1，false 保持模型算出的值。默认与模型作者的做法相同。",
        "truncate the second text of a pair so that both have at most this many tokens. -1 or absent: the model's "
        "context.": "截断一对里的第二个文本，使两者至多有这么多 token。-1 或没有：模型的上下文。",
        "Format of the answer: text, json_object or json_schema. With strict, the request fails if a part of the schema "
        "cannot be enforced. Can be combined with tools.":
            "回答的格式：text、json_object 或 json_schema。有 strict 时，schema 有部分不能强制就拒绝请求。可以与工具一起用。",
        "Give documents as strings.": "文档请写成字符串。",
        "It concerns the answer.": "它关系到回答。",
        "It limits built-in tools, and the server has none.": "它限制内置工具，而服务没有内置工具。",
        "Name of the model. Absent or null: the first embedding model.": "模型的名字。没有或 null：第一个向量模型。",
        "Name of the model. Absent or null: the first reranker.": "模型的名字。没有或 null：第一个重排模型。",
        "Name of the model. Absent or null: the server's default model.": "模型的名字。没有或 null：服务的默认模型。",
        "Newer name of max_tokens; takes precedence over it.": "max_tokens 的新名，优先于它。",
        "Reasoning is streamed as it comes.": "思考过程随生成流式发送。",
        "Reasoning is always apart from the text.": "思考过程总与正文分开。",
        "Gateways send false.": "网关会发送 false。",
        "Nothing is stored.": "不存储任何内容。",
        "Number of answers, at most 128. Also limited to --parallel plus --max-waiting.":
            "回答的数目，至多 128，也不超过 --parallel 加 --max-waiting。",
        "Number of most likely tokens to list at each position.": "每个位置列出多少个最可能的 token。",
        "Number of most likely tokens to list at each position. Needs logprobs.":
            "每个位置列出多少个最可能的 token。需要 logprobs。",
        "Number of most likely tokens to list at each position; with echo, also for the prompt.":
            "每个位置列出多少个最可能的 token；有 echo 时也包括提示词。",
        "Numbers (default), or base64 of little-endian float32 numbers.": "数（默认），或小端 float32 数的 base64。",
        "Older name of tool_choice.": "tool_choice 的旧名。",
        "Older name of tools. The answer then has function_call.": "tools 的旧名。这时回答有 function_call。",
        "Prefixes are always cached.": "前缀总是缓存。",
        "Prepend the special tokens that precede every text. Default for prompt: true.":
            "在前面加上每个文本之前的特殊 token。对 prompt 的默认值：true。",
        "Requests of one API key with different values share only the cached system messages.":
            "一个 API 密钥的请求，值不同时只共用缓存的系统消息。",
        "Return log-probabilities, computed before penalties and temperature are applied.":
            "返回对数概率，在惩罚和温度之前计算。",
        "Return only this many results. Absent, null or 0: all.": "只返回这么多结果。没有、null 或 0：全部。",
        "Scores are numbers.": "分数是数。",
        "Roles: system, developer, user, assistant, tool, function. content is a string, an array of text parts, or "
        "null.": "角色：system、developer、user、assistant、tool、function。content 是字符串、文本部分的数组或 null。",
        "Roles: user, assistant, system. Blocks: text, tool_use, tool_result, documents of text, thinking. "
        "May be empty if system is not.":
            "角色：user、assistant、system。块：text、tool_use、tool_result、文本文档、thinking。有 system 时可以为空。",
        "Sample from the k most likely tokens. 0 disables the limit.": "从最可能的 k 个 token 里采样。0 不限。",
        "Sample from the most likely tokens with this total probability. 0 keeps only the most likely token.":
            "从总概率为这个值的最可能的 token 里采样。0 只留最可能的 token。",
        "Sampling temperature. 0 always selects the most likely token (greedy decoding).":
            "采样温度。0 总是取最可能的 token（贪心解码）。",
        "Seed of the random number generator. Answer i of n uses seed + i.": "随机数的种子。n 个回答的第 i 个用 seed + i。",
        "Special tokens are never part of the text.": "特殊 token 从不是文本的一部分。",
        "Special tokens in a text are plain text.": "文本里的特殊 token 是普通文本。",
        "String or strings that end the answer. Empty strings are ignored.": "结束回答的一个或几个字符串。空字符串被忽略。",
        "Strings that end the answer; stop_sequence of the reply is the one that ended it.":
            "结束回答的字符串；应答的 stop_sequence 是结束了它的那一个。",
        "Subtracted from the logit of a token once per occurrence in the text.":
            "token 在文本里每出现一次，就从它的 logit 减去这个值。",
        "Subtracted from the logit of each token that the text already contains.": "从文本已有的每个 token 的 logit 减去这个值。",
        "System message before the input. Later responses do not inherit it.": "输入之前的系统消息。后面的应答不继承它。",
        "System message: a string or blocks of text.": "系统消息：字符串或文本块。",
        "A model reasons as its chat template has it.": "模型怎样推理由它的对话模板决定。",
        "enabled or adaptive: the reasoning of a model that writes it comes as thinking blocks. disabled also sets "
        "enable_thinking of its chat template to false. budget_tokens and display have no effect.":
            "enabled 或 adaptive：模型写出的推理作为 thinking 块返回。disabled 还把对话模板的 enable_thinking 设为 false。"
            "budget_tokens 和 display 不起作用。",
        "The model only continues a text.": "模型只续写文本。",
        "The same for content. Default: false.": "对 content 的同样设置。默认值：false。",
        "The server has only one backend.": "服务只有一个后端。",
        "The server never shortens the context.": "服务从不缩短上下文。",
        "The text that documents are compared with, or an object with it.": "与文档比较的文本，或带有它的对象。",
        "The text, under the name that llama-server uses.": "文本，用 llama-server 的名字。",
        "The text.": "文本。",
        "Token ids.": "token 编号。",
        "An answer to each example, in their order.": "按顺序，每个示例一个回答。",
        "Token limit of the answer, 16 by default, reduced to the space left in the context. -1: all of that space. 0, "
        "only with echo: score the prompt, without an answer.":
            "回答的 token 上限，默认 16，减到上下文剩下的空间。-1：全部剩下的空间。0，只与 echo 一起：给提示词打分，没有回答。",
        "Token limit of the answer, reduced to the space left in the context. -1 and 0: all of that space.":
            "回答的 token 上限，减到上下文剩下的空间。-1 和 0：全部剩下的空间。",
        "Token limit of the answer, reduced to the space left in the context. -1: all of that space. 0: not set.":
            "回答的 token 上限，减到上下文剩下的空间。-1：全部剩下的空间。0：没有设。",
        "Truncate each document to this many tokens.": "把每个文档截断到这么多 token。",
        "Truncate each vector to this many dimensions, before it is normalized.": "归一化之前，把每个向量截断到这么多维。",
        "Usage has the tokens.": "token 数在 usage 里。",
        "Use chat_template_kwargs for what the chat template of the model file knows.":
            "模型文件的对话模板认识的内容，请用 chat_template_kwargs。",
        "Use max_tokens to limit the answer.": "限制回答请用 max_tokens。",
        "Use n, which returns all answers.": "请用 n，它返回所有回答。",
        "Use prompt, or /v1/chat/completions.": "请用 prompt，或 /v1/chat/completions。",
        "Use truncation to shorten a conversation.": "缩短对话请用 truncation。",
        "Whether and which functions the model calls. any is the same as required.":
            "模型是否调用函数、调用哪些。any 与 required 相同。",
        "auto, any, tool or none, with disable_parallel_tool_use.": "auto、any、tool 或 none，可带 disable_parallel_tool_use。",
        "auto: drop the oldest items if the context is too short. disabled (default): status 400.":
            "auto：上下文太短时去掉最旧的条目。disabled（默认）：状态 400。",
        "create has no effect, as threads are not stored. continue is a 404 thread_not_found, after which Anthropic's "
        "SDKs send the whole conversation.":
            "create 不起作用，因为不存会话。continue 返回 404 thread_not_found，之后 Anthropic 的 SDK 发送整个对话。",
        "false: at most one call in an answer. true (default): up to 8 if the model family supports it.":
            "false：一个回答至多一个调用。true（默认）：模型系列支持时至多 8 个。",
        "format: a json_schema that the answer follows. effort has no effect.":
            "format：回答遵循的 json_schema。effort 不起作用。",
        "format: text, json_object or json_schema. With strict, the request fails if a part of the schema cannot be "
        "enforced. Can be combined with tools.":
            "format：text、json_object 或 json_schema。有 strict 时，schema 有部分不能强制就拒绝请求。可以与工具一起用。",
        "id of a stored prompt, with a string for each of its variables. It precedes the input.":
            "存储的提示词的 id，以及它每个变量的字符串。它在输入之前。",
        "id of a stored response. Its conversation precedes the input.": "已存应答的 id。它的对话在输入之前。",
        "include_usage: add a last chunk with the token counts.": "include_usage：在最后加一块，带 token 数。",
        "message.output_text.logprobs adds log-probabilities. The other values have no effect.":
            "message.output_text.logprobs 加上对数概率。其他值不起作用。",
        "true (default): keep the response in memory until newer responses replace it.":
            "true（默认）：应答留在内存里，直到被更新的应答代替。",
        "true: also return the token strings.": "true：同时返回 token 的字符串。",
        "true: prepend the prompt to each answer.": "true：在每个回答前面加上提示词。",
        "true: results contain the documents.": "true：结果里有文档。",
        "true: send the answer as server-sent events while it is generated.": "true：生成的同时以服务器发送事件发送回答。",
    }
)  # fmt: skip
"""Without the word Extension in front. "Use X." is translated by rule."""


def line_in_chinese(line: str) -> str:
    """Return a line of the English page below its head in Chinese; an unknown line stays."""
    cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
    if not line.startswith("| `") or len(cells) != 4:
        return _NOTES.get(line, line)
    field, kind, value, description = cells
    return f"| {field} | {_KINDS.get(kind, kind)} | {_value(value)} | {described(description)} |"


def described(text: str) -> str:
    """Return a description in Chinese; the same text where there is none."""
    for english, chinese in _EXTENSIONS:
        if text.startswith(english):
            return chinese + described(text.removeprefix(english))
    if (found := re.fullmatch(r"Use ([\w.]+(?:: \w+)?)\.", text)) is not None:
        return f"请用 {found[1]}。"
    return DESCRIPTIONS.get(text, text)


def _value(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", text)  # what is in backquotes is literal
    for english, chinese in _VALUES:
        parts[::2] = [part.replace(english, chinese) for part in parts[::2]]
    return "".join(parts)
