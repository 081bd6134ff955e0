"""Chinese texts of the commands: messages, tables, progress."""

from collections.abc import Mapping
from types import MappingProxyType

SAID: Mapping[str, str] = MappingProxyType(
    {
        "up to {answers} answers at once, {tokens} tokens each": "最多同时 {answers} 个回答，每个 {tokens} token",
        "vectors of {numbers} numbers, of texts of {tokens} tokens at most":
            "{numbers} 维向量，文本至多 {tokens} token",
        "scores of pairs of texts, of {tokens} tokens at most": "给文本对打分，每对至多 {tokens} token",
        "is loaded by the first request for it": "由第一个用它的请求加载",
        "it answers": "有应答",
        "cannot be served: {reason}": "不能提供：{reason}",
        "a variant of {parent}": "{parent} 的适配器",
        "In a browser:": "在浏览器里：",
        "glmserve is ready on {url}": "glmserve 已就绪：{url}",
        "`serve status` shows it; `serve shutdown -y` ends it.":
            "`serve status` 显示状态；`serve shutdown -y` 结束它。",
        "Ctrl-C stops the server.": "按 Ctrl-C 停止服务。",
        "Other machines reach it on {url}": "其他机器的访问地址：{url}",
        "{address}, for everybody who can reach it: there are no API keys (--api-key-file)":
            "{address}，能连到的人都可以用：没有设 API 密钥（--api-key-file）",
        "{name} is ready on {url}": "{name} 已就绪：{url}",
        "glmserve is ready on {url} with {count} models, the first one for requests that name none:":
            "glmserve 已就绪：{url}，共 {count} 个模型，没有写模型的请求用第一个：",
        "OpenAI clients (base_url {url}/v1, any api_key):": "OpenAI 客户端（base_url {url}/v1，api_key 任意）：",
        "OpenAI clients (base_url {url}/v1, an api_key):": "OpenAI 客户端（base_url {url}/v1，需要 api_key）：",
        "The same, streamed:": "同样的请求，流式：",
        "Programs written for the original api.py:": "为原版 api.py 写的程序：",
        "{name} at {url}; /help lists the commands, Ctrl-D leaves": "{name}，{url}；/help 列出命令，Ctrl-D 退出",
        "loading {name}…": "正在加载 {name}…",
        "no models yet; get one with glmserve pull, or run the embedded one with glmserve serve":
            "还没有模型；用 glmserve pull 下载一个，或用 glmserve serve 运行内置的",
        "removed {count} saved prompts": "删除了 {count} 个保存的提示词",
        "downloaded {have} of {total} GB": "已下载 {have} / {total} GB",
        "looking at the machine and the models…": "正在检查本机和模型…", "reading the file…": "正在读取文件…",
        "Installation": "安装", "Machine": "本机", "Model": "模型", "Model files in {folder}": "{folder} 里的模型文件",
        "Problem:": "问题：", "GPU support": "GPU 支持", "yes": "有",
        "no: built for the CPU, or no GPU was found": "没有：为 CPU 编译，或没有找到 GPU",
        "system": "系统", "cores": "核", "{usable} of {cores} usable": "{cores} 个，可用 {usable} 个", "memory": "内存",
        "{free} of {total} free": "{total} 中空闲 {free}", "device {name}": "设备 {name}",
        "name": "名字", "state": "状态", "file": "文件", "what it is": "是什么", "not said": "没有写明",
        "{architecture}, {layers} layers, {size}, prompts as {format}":
            "{architecture}，{layers} 层，{size}，提示词格式 {format}",
        "prompt format": "提示词格式", "inferred from {reason}": "由 {reason} 推断", "compute mode": "计算方式",
        "{mode}, as {reason} (remove {file} to try it again)": "{mode}，因为 {reason}（删除 {file} 可重试）",
        "self-test": "自检", "passed": "通过", "would run on": "运行在", "threads": "线程",
        "weights": "权重", "repacked": "重新排列", "as they lie in the file": "与文件相同",
        "  {count} tokens a step": "  每步 {count} token",
        "{repacked} a token repacked, {as_is} as in the file": "重新排列时每个 token {repacked}，与文件相同时 {as_is}",
        "layers on the GPU": "GPU 上的层", "{some} of {all}": "{all} 层中的 {some} 层", "context": "上下文",
        "{count} tokens for each answer": "每个回答 {count} token",
        "cache": "缓存", "{count} tokens, {size}": "{count} token，{size}",
        "the fastest of {tried}, measured when it loads,": "{tried} 中加载时测得最快的",
        "{generate} to generate, {read} to read prompts": "生成用 {generate}，读提示词用 {read}", "none": "没有",
        "type": "类型", "size": "大小", "family": "系列", "path": "路径",
        "note:": "说明：", "error:": "错误：", "warning:": "警告：", "Verdict:": "结论：", "wrong": "有误",
        "{count} layers": "{count} 层",
        "{name}, prompts as {format}, {context} tokens": "{name}，提示词格式 {format}，{context} token",
        "{name}, a reranker, {context} tokens": "{name}，重排模型，{context} token",
        "{name}, an embedding model, {context} tokens": "{name}，向量模型，{context} token",
        "vectors": "向量", "scaled to length 1": "长度归一", "not scaled": "不归一",
        "{numbers} numbers, {pooling} pooling, {scaled}": "{numbers} 维，{pooling} 池化，{scaled}",
        "shape": "形状", "served as": "提供为", "prompt": "提示词", "ids": "编号", "stops at": "结束于",
        "perplexity": "困惑度",
        "{count} billion parameters": "{count} × 10⁹ 个参数", "{count} million parameters": "{count} × 10⁶ 个参数",
        "{command} --help-all has all {count} options in full.":
            "{command} --help-all 列出全部 {count} 个选项和完整的说明。",
        "File of API keys.": "API 密钥的文件。",
        "Weight type of a checkpoint: q4_k_m, q8_0, f16, and others.": "检查点的权重类型：q4_k_m、q8_0、f16 等。",
        "Context length in tokens, prompt and answer together.": "上下文长度（token），提示词与回答合计。",
        "Maximum number of requests computed at once.": "同时计算的请求的最大数目。",
        "Device that runs the model: auto, cpu or cuda.": "运行模型的设备：auto、cpu 或 cuda。",
        "Another name for the model, such as gpt-3.5-turbo.": "模型的另一个名字，例如 gpt-3.5-turbo。",
        "Also serve the model with this LoRA adapter.": "模型加上这个 LoRA 适配器，也提供。",
        "Folder with your own tasks.": "你自己的任务所在的目录。",
        "TOML file with settings.": "设置的 TOML 文件。",
        "Folder of converted models.": "转换好的模型的目录。",
        "API key of the server.": "服务的 API 密钥。",
        "Name of the one model in requests.": "唯一模型在请求里的名字。",
        "answering the examples": "正在回答示例",
        "{task} with {model}, {count} examples": "{task}，模型 {model}，{count} 个示例",
        "field": "字段", "kind": "种类", "right": "正确", "of": "总数", "accuracy": "准确率",
        "{field}: the right label (rows) and the answered one (columns)": "{field}：正确的标签（行）与回答的标签（列）",
        "{field}: confused labels": "{field}：混淆的标签",
        "wrong answers": "错误的回答",
        "{field}: {answered}, not {right}": "{field}：{answered}，应为 {right}",
        "{field}: {answered}, without {right}": "{field}：{answered}，缺少 {right}",
        "some text": "一些文字",
        "accuracy {accuracy}; right in all fields: {right} of {count} ({share})":
            "准确率 {accuracy}；所有字段都对的：{count} 个里 {right} 个（{share}）",
        "validating": "正在检查", "failed": "失败", "in_progress": "正在回答", "finalizing": "正在收尾",
        "completed": "已完成", "expired": "已过期", "cancelling": "正在取消", "cancelled": "已取消",
        "continuing {batch}, which this input has already": "继续 {batch}，这个输入已有的批量任务",
        "{batch} continues on the server; the same command waits for it again":
            "{batch} 在服务上继续；再次运行同一命令就继续等它",
        "{status}: {answered} answered, {failed} failed, of {total}":
            "{status}：共 {total} 行，已回答 {answered} 行，失败 {failed} 行",
        "{batch} is being cancelled": "正在取消 {batch}",
        "the accuracy {accuracy} is below --min-accuracy {least}": "准确率 {accuracy} 低于 --min-accuracy {least}",
    }
)  # fmt: skip
"""What is said in English, and the same in Chinese."""
