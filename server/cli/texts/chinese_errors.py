"""Errors that an operator meets at the start of a command, in Chinese; all others stay in English.

The layers below speak English, so that logs and replies do. Here their messages are recognised by their form: `{name}`
stands for any text, which is kept.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

import click

from glmserve.config.chinese import speaks_chinese

ERRORS: Mapping[str, str] = MappingProxyType(
    {
        # settings
        "{setting} is not a setting; did you mean {other}?": "没有 {setting} 这个设置；是不是 {other}？",
        "{setting} is not a setting": "没有 {setting} 这个设置",
        "{setting} is not a setting of a {what}; did you mean {other}?":
            "{setting} 不是 {what} 的设置；是不是 {other}？",
        "{setting} is not a setting of a {what}": "{setting} 不是 {what} 的设置",
        "{setting}: it is set, but empty; give it a value, or leave it out":
            "{setting}：写了，但是空的；给它一个值，或去掉它",
        "{setting}: Input should be a valid integer, unable to parse string as an integer, not {value}":
            "{setting}：必须是整数，不能是 {value}",
        "{setting}: Input should be a valid number, unable to parse string as a number, not {value}":
            "{setting}：必须是数，不能是 {value}",
        "{setting}: Input should be greater than or equal to {least}, not {value}":
            "{setting}：不能小于 {least}，写的是 {value}",
        "{setting}: Input should be less than or equal to {most}, not {value}":
            "{setting}：不能大于 {most}，写的是 {value}",
        "{setting}: Input should be less than {most}, not {value}": "{setting}：必须小于 {most}，写的是 {value}",
        "{setting}: Input should be greater than {least}, not {value}": "{setting}：必须大于 {least}，写的是 {value}",
        "{setting}: Input should be {choices}, not {value}": "{setting}：应为 {choices} 之一，写的是 {value}",
        "{setting}: this setting is for a single model, and {count} are served; set it in their [[models]] tables":
            "{setting}：这是单个模型的设置，现在提供 {count} 个；请写在它们的 [[models]] 表里",
        "{setting}: must be NAME=FILE with a name of its own, not {value}":
            "{setting}：必须是 NAME=FILE，名字不能重复，写的是 {value}",
        "{setting} needs {needed}; a running server has its own settings":
            "{setting} 需要 {needed}；正在运行的服务有自己的设置",
        "{file}: cannot be read ({reason})": "{file}：不能读取（{reason}）",
        "{file}: not a TOML file ({reason})": "{file}：不是 TOML 文件（{reason}）",
        "{file}: there is no key in it": "{file}：里面没有密钥",
        "--api-key: a key may have printable ASCII characters only": "--api-key：密钥只能含有可打印的 ASCII 字符",
        "glmserve cluster needs the extra ray: pip install 'glmserve[ray]' ({reason})":
            "glmserve cluster 需要附加组件 ray：pip install 'glmserve[ray]'（{reason}）",
        "the build failed with status {status}:": "编译失败，状态 {status}：",
        "this user has no home folder for converted models; set a folder with --cache-dir":
            "这个用户没有主目录来放转换好的模型；用 --cache-dir 指定目录",
        "{folder}: {reason}; name a folder for converted models with --cache-dir":
            "{folder}：{reason}；用 --cache-dir 指定放转换好的模型的目录",
        # models
        "{model}: no such file or folder, and not the name of a known model; give a .gguf file, a checkpoint folder, "
        "or nothing for the embedded model":
            "{model}：没有这个文件或目录，也不是已知模型的名字；请写 .gguf 文件、检查点目录，不写则用内置模型",
        "{name} is not on this machine as {type}; glmserve pull {again} downloads it":
            "本机没有 {type} 的 {name}；用 glmserve pull {again} 下载",
        "{name} is not on this machine; glmserve pull {again} downloads it":
            "本机没有 {name}；用 glmserve pull {again} 下载",
        "{folder} has {count} GGUF files; name one of them: {files}":
            "{folder} 里有 {count} 个 GGUF 文件；请写其中一个：{files}",
        "{file} is a folder; convert it first: glmserve convert {again} -o FILE.gguf":
            "{file} 是目录；先转换：glmserve convert {again} -o FILE.gguf",
        "{file}: no such file; the adapter {name} needs it": "{file}：没有这个文件；适配器 {name} 需要它",
        "{file}: there is no such file": "{file}：没有这个文件",
        "{file}: not a readable GGUF file ({fault}); {advice}": "{file}：不是可读的 GGUF 文件（{fault}）；{advice}",
        "{file}: cut off inside tensor {tensor}; copy or convert it again":
            "{file}：在张量 {tensor} 处截断；请重新复制或转换",
        "{file}: architecture {name} is not served here: {reason}": "{file}：不支持架构 {name}：{reason}",
        "a context of {tokens} tokens was asked for; {file} was trained for {most}":
            "要求的上下文是 {tokens} token；{file} 训练时是 {most}",
        "a cache of {tokens} tokens is smaller than one context of {context} tokens":
            "{tokens} token 的缓存小于一个 {context} token 的上下文",
        "--device cuda was asked for, but {reason}; use --device auto or cpu":
            "要求 --device cuda，但是 {reason}；请用 --device auto 或 cpu",
        "{model} is not a known model; give OWNER/NAME of a repository, or one of {known}":
            "{model} 不是已知模型；请写仓库的 OWNER/NAME，或其中之一：{known}",
        # downloads
        "{model} could not be downloaded from {url}: {reason}; try again, name a mirror with HF_ENDPOINT, or take it "
        "from ModelScope with --from modelscope":
            "不能从 {url} 下载 {model}：{reason}；请重试，用 HF_ENDPOINT 指定镜像，或用 --from modelscope 从魔搭下载",
        "{model} could not be downloaded from {url}: {reason}; try again, name another address with "
        "MODELSCOPE_ENDPOINT, or take it from Hugging Face with --from huggingface":
            "不能从 {url} 下载 {model}：{reason}；请重试，用 MODELSCOPE_ENDPOINT 指定别的地址，或用 --from huggingface",
        "{model} is gated: request access on its page, then log in with `hf auth login` or set HF_TOKEN":
            "{model} 需要许可：在它的页面申请，然后用 `hf auth login` 登录或设置 HF_TOKEN",
        "there is no model {model} on {url}": "{url} 上没有模型 {model}",
        "{model} has no revision {revision}": "{model} 没有版本 {revision}",
        "{needed} GB are needed in {folder} and {free} GB are free; make room, or move the folders with HF_HOME or "
        "MODELSCOPE_CACHE, and --cache-dir":
            "{folder} 需要 {needed} GB，空闲 {free} GB；请腾出空间，或用 HF_HOME、"
            "MODELSCOPE_CACHE 和 --cache-dir 换目录",
        # batches
        "{file} exists; remove it, or give --force": "{file} 已存在；请删除它，或加上 --force",
        "no batch of this input is running": "这个输入没有正在运行的批量任务",
        "some lines have no answer; {file} has them": "有些行没有回答，见 {file}",
        "{count} of {total} lines have no answer": "{total} 行里有 {count} 行没有回答",
        "line {number} must be an object of {names}": "第 {number} 行必须是对象，含有 {names}",
        "line {number} has no {name}, which {task} needs": "第 {number} 行没有 {name}，{task} 需要它",
        "line {number}: {name} must be a string": "第 {number} 行：{name} 必须是字符串",
        "--lines reads standard input; leave out TEXT, --var and --check":
            "--lines 从标准输入读取；请不要写 TEXT、--var 和 --check",
        "standard input is not valid UTF-8 ({reason} at byte {place})":
            "标准输入不是有效的 UTF-8（第 {place} 个字节：{reason}）",
        "{folder} is not a folder; create it first": "{folder} 不是目录；请先建立它",
        "{file} is the input; choose another name": "{file} 是输入；请换一个名字",
        "{file} cannot be written: {reason}": "不能写 {file}：{reason}",
        "the server has no batches: no glmserve server, or an older version":
            "这个服务没有批量任务：不是 glmserve，或版本较旧",
        "{url} lists no tasks: no glmserve server, or an older version":
            "{url} 没有任务列表：不是 glmserve，或版本较旧",
        "the input has faults:": "输入有错误：",
        "  line {number}: {fault}": "  第 {number} 行：{fault}",
        "  the input file has no line": "  输入文件没有任何一行",
        "{file}: the first line is no request with a url, as batches have them":
            "{file}：第一行不是批量任务的请求，没有 url",
        "line {number} is not JSON: give a string, or an object of variables":
            "第 {number} 行不是 JSON：请写一个字符串，或一个变量的对象",
        # checkpoints
        "{file} exists and was not made from this source; choose another name, or replace it with --force":
            "{file} 已存在，而且不是由这个来源制作的；换一个名字，或用 --force 替换",
        "{file} is a symbolic link to {other}; give the name of the file itself":
            "{file} 是指向 {other} 的符号链接；请写文件本身的名字",
        "{file} is one of the files that are converted; choose another name":
            "{file} 是要转换的文件之一；请换一个名字",
        "{file} is missing; {advice}": "缺少 {file}；{advice}",
        "{file} is damaged: {fault}; download it again": "{file} 损坏：{fault}；请重新下载",
        "{folder} has no tensor {name}; the checkpoint is incomplete, download it again":
            "{folder} 里没有张量 {name}；检查点不完整，请重新下载",
        "{file} is being written by another process; wait for it, or choose another name":
            "另一个进程正在写 {file}；请等它完成，或换一个名字",
        # the server
        "{setting}: a key has {least} to {most} printable ASCII characters without blank and colon; NAME: may precede "
        "it":
            "{setting}：密钥是 {least} 到 {most} 个可打印的 ASCII 字符，没有空格和冒号；前面可以写 NAME:",
        "cannot listen on {host} port {port}: {reason}; choose another with --port or --host":
            "不能监听 {host} 的端口 {port}：{reason}；用 --port 或 --host 换一个",
        "two served models have the name {name}; rename one of them": "有两个模型都叫 {name}；请给其中一个改名",
        "no served model has the name {name}; served models: {names}": "没有叫 {name} 的模型；提供的模型：{names}",
        "--pin-task {task}: there is no such task; there are: {tasks}": "--pin-task {task}：没有这个任务；有：{tasks}",
        "all engines failed, in spite of restarts (--max-restarts); the log has the reason":
            "所有引擎都失败了，重启（--max-restarts）也没有用；原因在日志里",
        # a running server
        "no server answers at {url} ({reason}); {advice}": "{url} 没有服务应答（{reason}）；{advice}",
        "the connection to {url} was lost ({reason})": "与 {url} 的连接断开（{reason}）",
        "{url} is not an OpenAI-compatible server": "{url} 不是兼容 OpenAI 的服务",
        "{url} serves no model": "{url} 没有提供模型",
        "{message} (HTTP {status}); --api-key or GLMSERVE_API_KEY gives it one":
            "{message}（HTTP {status}）；用 --api-key 或 GLMSERVE_API_KEY 给出密钥",
        "give a MODEL or --url, not both": "MODEL 和 --url 只能写一个",
        "give a TASK; glmserve task --list shows them": "请写 TASK；glmserve task --list 列出任务",
        "there is no task {task}; there are: {tasks}": "没有任务 {task}；有：{tasks}",
        "the task {task} has no examples; add [[examples]] to its file":
            "任务 {task} 没有示例；请在它的文件里加上 [[examples]]",
        "--check runs the examples of the task; leave out TEXT and --var":
            "--check 运行任务的示例；请不要写 TEXT 和 --var",
        "{task} takes no TEXT; it needs {names}: give each with --var NAME=VALUE":
            "{task} 不接受 TEXT；它需要 {names}：用 --var NAME=VALUE 逐个给出",
        "{task} needs {name}, as in: glmserve task {example}": "{task} 需要 {name}，例如：glmserve task {example}",
        "--var {pair}: must be NAME=VALUE": "--var {pair}：必须是 NAME=VALUE",
        # reports
        "ready to be loaded": "可以加载",
        "{folder} is converted to {type} when it is served first": "{folder} 首次提供时转换成 {type}",
        "a checkpoint, which `serve` converts to {type} when it is served first":
            "检查点，`serve` 首次提供时转换成 {type}",
        "a GGUF file made by {program}": "{program} 制作的 GGUF 文件",
        "a LoRA adapter, served with its model by --lora": "LoRA 适配器，用 --lora 与其模型一起提供",
        "a P-Tuning prefix, served with its model by --prefix": "P-Tuning 前缀，用 --prefix 与其模型一起提供",
        "cannot be served": "不能提供", "a vocabulary": "词表",
        "its weights are not tried before they are converted": "权重在转换之前不检查",
        "it was trained on its examples alone, so the perplexity of other texts says nothing about it":
            "它只用自己的示例训练过，其他文本的困惑度说明不了什么",
        "prompt format inferred from {reason}": "提示词格式由 {reason} 推断",
        "CPU, {count} threads": "CPU，{count} 个线程",
        "the vocabulary has {tokens} tokens and {name} {rows} rows; convert it again":
            "词表有 {tokens} 个 token，{name} 有 {rows} 行；请重新转换",
        "the perplexity of the {language} paragraph is {found}, where at most {limit} is sane: the weights, the rotary "
        "positions or the vocabulary are wrong":
            "{language} 段落的困惑度是 {found}，正常的至多 {limit}：权重、旋转位置或词表有误",
        "no token ends an answer, so that each runs to its token limit; convert the model again":
            "没有使回答结束的 token，回答都会写到上限；请重新转换模型",
        "{text} ({number}) ends an answer and is ordinary text, which cuts answers off; convert it again":
            "{text}（{number}）使回答结束，但它是普通文本，会截断回答；请重新转换",
        "{missing} should end an answer and is no special token of the vocabulary":
            "{missing} 应使回答结束，但不是词表里的特殊 token",
        "it has no weights, and can be used for tests of a tokenizer only; get the file of the model":
            "它没有权重，只能用来测试分词器；请取得模型的文件",
        "it has no matrix token_embd.weight; convert it again": "它没有矩阵 token_embd.weight；请重新转换",
        "block_count is {count}, and layer {number} has no weights; copy or convert it again":
            "block_count 是 {count}，第 {number} 层没有权重；请重新复制或转换",
        "block_count is {count}, and there are weights of layer {number}; convert it again":
            "block_count 是 {count}，却有第 {number} 层的权重；请重新转换",
        "embedding_length is {width} and token_embd.weight has {columns} columns; convert it again":
            "embedding_length 是 {width}，token_embd.weight 有 {columns} 列；请重新转换",
        "feed_forward_length is {width} and blk.0.ffn_down.weight has {columns} columns":
            "feed_forward_length 是 {width}，blk.0.ffn_down.weight 有 {columns} 列",
        "{key} is {number}, and the vocabulary ends at {last}; convert it again":
            "{key} 是 {number}，词表到 {last} 为止；请重新转换",
        "general.file_type says {type}, and no weights have it ({types})":
            "general.file_type 写的是 {type}，但没有这种权重（{types}）",
        "{model} is a model for long texts, and its rotary positions are those of the model for 8192 tokens; "
        "convert it again":
            "{model} 是长文本模型，它的旋转位置却是 8192 token 模型的；请重新转换",
        "{model} is a model for long texts of ChatGLM2, which divides its positions, and the file has another base "
        "instead (rope.freq_base {base}); convert it with glmserve convert":
            "{model} 是 ChatGLM2 的长文本模型，位置应按比例缩小，文件却改了基数（rope.freq_base {base}）；"
            "请用 glmserve convert 转换",
        "{model} is a model for long texts of {format}, which changes its rotary base, and the file divides positions":
            "{model} 是 {format} 的长文本模型，应改旋转基数，文件却缩小了位置",
        "{model} has plain rotary positions, and the file has base {base} and factor {factor}":
            "{model} 用普通的旋转位置，文件里的基数是 {base}，倍数是 {factor}",
        "llama.cpp does not load the file: {reason}": "llama.cpp 不能加载这个文件：{reason}",
        "llama.cpp ends the process that loads the file; convert the model again":
            "llama.cpp 加载这个文件时进程终止；请重新转换模型",
        # what a conversion decided
        "family: {name}, because {reason}": "系列：{name}，因为{reason}",
        "rope: positions are divided by {ratio}, because {reason}": "旋转位置：位置除以 {ratio}，因为{reason}",
        "rope: the base is {base}, multiplied by {ratio}, because {reason}":
            "旋转位置：基数乘以 {ratio}，为 {base}，因为{reason}",
        "rope: {kind} scaling by {factor}, because config.json has it":
            "旋转位置：按 config.json 用 {kind} 缩放，倍数 {factor}",
        "weights: packed int{bits}, unpacked; the checkpoint they were made from gives a better file":
            "权重：打包的 int{bits}，已解开；用制作它的原检查点转换，文件更好",
        "weights: safetensors, because the folder has them beside .bin files of the same model":
            "权重：safetensors，因为目录里除了同一模型的 .bin 文件还有它们",
        "vectors: mean pooling, not normalised: the folder has no {file}, and sentence-transformers does so then; "
        "download it if the model has one":
            "向量：mean 池化，不归一：目录里没有 {file}，这时 sentence-transformers 这样做；模型有这个文件的话请下载",
        "vectors: {pooling} pooling, {length}": "向量：{pooling} 池化，{length}",
        "reranker: a score for each pair of texts": "重排模型：给每个文本对一个分数",
        "Baichuan2 ({reason}): the rows of lm_head are normalised": "Baichuan2（{reason}）：lm_head 的行归一化",
        "the first Baichuan ({reason}): lm_head stays as it is": "第一代 Baichuan（{reason}）：lm_head 不变",
        "{count} layers: rotated positions, as in the 7B models": "{count} 层：旋转位置，与 7B 模型相同",
        "{count} layers: ALiBi, as in the 13B models": "{count} 层：ALiBi，与 13B 模型相同",
        # how a command is called
        "No such option {name}. (Did you mean one of: {other}?)": "没有选项 {name}；可能是：{other}",
        "No such option {name}. Did you mean {other}?": "没有选项 {name}；是不是 {other}？",
        "No such option {name}.": "没有选项 {name}。",
        "No such command {name}. Did you mean {other}?": "没有命令 {name}；是不是 {other}？",
        "No such command {name}.": "没有命令 {name}。",
        "No such option: {name} Did you mean {other}?": "没有选项 {name}；是不是 {other}？",
        "No such option: {name} (Possible options: {other})": "没有选项 {name}；可能是：{other}",
        "No such option: {name}": "没有选项 {name}",
        "Missing argument {name}.": "缺少参数 {name}。",
        "Option {name} requires an argument.": "选项 {name} 需要一个值。",
        "Option {name} does not take a value.": "选项 {name} 不带值。",
        "Got unexpected extra argument ({text})": "多余的参数（{text}）",
        "Got unexpected extra arguments ({text})": "多余的参数（{text}）",
        "Invalid value for {name}: {value} is not one of {choices}.": "{name} 的值不对：{value} 不是 {choices} 之一。",
        "Invalid value for {name}: {value} is not a valid {type}.": "{name} 的值不对：{value} 不是 {type}。",
        "Invalid value for {name}: {value} is not in the range {range}.":
            "{name} 的值不对：{value} 不在 {range} 之内。",
        "Invalid value for {name}: {reason}": "{name} 的值不对：{reason}",
    }
)  # fmt: skip
"""Messages in English, and the same in Chinese; the first that fits is taken."""

_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "Address already in use": "地址已被占用", "Permission denied": "没有权限",
        "No such file or directory": "没有这个文件",
        "Is a directory": "是目录", "not writable": "不可写", "Read-only file system": "只读文件系统",
        "No space left on device": "磁盘已满", "Cannot assign requested address": "本机没有这个地址",
        "start one with glmserve serve": "用 glmserve serve 启动一个",
        "start one with glmserve serve, or give --model": "用 glmserve serve 启动一个，或写 --model",
        "copy or convert it again": "请重新复制或转换", "convert the model again": "请重新转换模型",
        "it is {kind}, not a model; it begins with {text}": "是 {kind}，不是模型；开头是 {text}",
        "it is a web page (HTML), such as the error page of a download": "是网页（HTML），例如下载出错的页面",
        "it is a pointer of Git LFS, not the file itself": "是 Git LFS 的指针，不是文件本身",
        "get the file with git lfs pull": "用 git lfs pull 取得文件",
        "it is a safetensors file": "是 safetensors 文件",
        "it is a zip archive, as torch.save writes it": "是 torch.save 写的 zip 文件",
        "give the folder of the checkpoint, which is converted": "请写检查点的目录，它会被转换",
        "download the file again": "请重新下载这个文件",
        "another program": "别的程序", "Chinese": "中文", "English": "英文", "model": "模型", "adapter": "适配器",
        "SOURCE must be the folder of a checkpoint in Hugging Face's layout":
            "SOURCE 必须是 Hugging Face 布局的检查点目录",
        "Directory {name} does not exist.": "目录 {name} 不存在。",
        "File {name} does not exist.": "文件 {name} 不存在。",
        "[Errno 111] Connection refused": "拒绝连接",
        # lines of a batch
        "the line is not valid JSON: {reason}": "不是有效的 JSON：{reason}",
        "the line must be a JSON object, not {type}": "必须是 JSON 对象，不能是 {type}",
        "the line is not valid UTF-8: {reason}": "不是有效的 UTF-8：{reason}",
        "the line is nested too deeply": "嵌套太深",
        "the line has more than {count} bytes": "超过 {count} 字节",
        "custom_id must be a string of 1 to {count} characters": "custom_id 必须是 1 到 {count} 个字符的字符串",
        "custom_id is the one of line {number}; each line needs its own":
            "custom_id 与第 {number} 行相同；每行要有自己的 custom_id",
        "method must be POST": "method 必须是 POST",
        "url is {url} and must be the endpoint of the batch, {endpoint}":
            "url 是 {url}，必须是批量任务的 endpoint {endpoint}",
        "body must be an object": "body 必须是对象",
        "a batch has at most {count} requests": "一个批量任务至多有 {count} 个请求",
        "it is empty": "是空的", "it is cut off inside its header": "在文件头处截断",
        "it is not a GGUF file of version 2 or 3": "不是版本 2 或 3 的 GGUF 文件",
        "normalised to length 1": "长度归一", "not normalised": "不归一",
        "that was asked for": "指定了它", "as asked": "指定了它",
        "nothing in the folder says otherwise": "目录里没有别的说明",
        "tokenizer.model is a byte-level vocabulary": " tokenizer.model 是字节级词表",
        "tokenizer.model puts no space before a text": " tokenizer.model 不在文本前加空格",
        "{file} has role tokens": " {file} 里有角色 token", "the folder is called {name}": "目录名是 {name}",
        "{file} has rounds of question and answer": " {file} 里有问答轮次",
        "seq_length is {value}": " seq_length 是 {value}",
        "model_type is {value}": " model_type 是 {value}", "{file} names {name}": " {file} 写的是 {name}",
        "{name} does so ({reason})": " {name} 这样做（{reason}）", "{name} does so": " {name} 这样做",
        "by vocab_size {count}": "vocab_size 是 {count}", "by {key}": "由 {key} 判断",
        "its own chat template": "自己的对话模板",
    }
)  # fmt: skip
"""Words in the place of a name in the messages."""

_NAME = re.compile(r"\{(\w+)\}")


def in_chinese(message: str) -> str:
    """Return ``message`` in Chinese, each line by itself; in English where there is no translation."""
    return "\n".join(map(_line, message.split("\n")))


def _line(message: str) -> str:
    return _translated(message, ERRORS.items())


def _translated(message: str, phrases: Iterable[tuple[str, str]]) -> str:
    for english, chinese in phrases:
        if found := _pattern(english).fullmatch(message):
            names = {name: _translated(text, _PARTS.items()) for name, text in found.groupdict().items()}
            return chinese.format(**names)
    return message


@cache
def _pattern(english: str) -> re.Pattern[str]:
    parts: Iterable[str] = _NAME.split(english)
    # Every other part is a name.
    return re.compile("".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))


def told(message: str) -> str:
    """Return ``message`` in the user's language, as far as it is translated."""
    return in_chinese(message) if speaks_chinese() else message


def show_in_chinese(error: click.ClickException) -> None:
    """Print the message, for wrong usage after the line of the usage."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(f"“{context.command_path} --help” 显示说明。\n", err=True)
    click.echo(f"错误：{in_chinese(error.format_message())}", err=True)
