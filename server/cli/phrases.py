"""Chinese texts of the commands: messages, tables, progress."""

from collections.abc import Mapping
from types import MappingProxyType

SAID: Mapping[str, str] = MappingProxyType(
    {
        "up to {answers} answers at once, {tokens} tokens each": "最多同时 {answers} 个回答，每个 {tokens} token",
        "vectors of {numbers} numbers, of texts of {tokens} tokens at most":
            "{numbers} 维向量，文本至多 {tokens} token",
        "is loaded by the first request for it": "由第一个用它的请求加载",
        "it answers": "有应答",
        "cannot be served: {reason}": "不能提供：{reason}",
        "a variant of {parent}": "{parent} 的适配器",
        "In a browser:": "在浏览器里：",
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
        "the accuracy {accuracy} is below --min-accuracy {least}": "准确率 {accuracy} 低于 --min-accuracy {least}",
    }
)  # fmt: skip
"""What is said in English, and the same in Chinese."""
