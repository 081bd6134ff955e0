"""Whether the user speaks Chinese, and the settings described in it; ``glmserve.config.schema`` has the English.

Apart from that, which needs pydantic: the list of commands does without.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "prompt_format": "对话提示词的格式；为空时用模型文件写明的格式。",
        "chat_template": "对话模板：Jinja 文件，或模型文件里另一个模板的名字，例如 tool_use；为空时用模型文件自己的。",
        "quant": "检查点目录转换成的权重类型。",
        "context": "上下文长度，提示词与回答的 token 总数；0 用模型自己的。",
        "parallel": "同时计算的请求的最大数目。",
        "cache_tokens": "KV 缓存的大小（token），用于正在运行的请求和缓存的前缀；0 由上下文和内存决定。",
        "max_waiting": "等待的请求的最大数目。满了以后新请求得到 429，除非它的客户端还没用完公平的份额。",
        "kv_type": "KV 缓存的类型；q8_0 只占一半内存，q4_0 占四分之一。",
        "threads": "生成用的线程数；0 经测量取最快的。",
        "threads_batch": "预填充用的线程数；0 是每个可用的核一个。",
        "batch_size": "每步的最大 token 数。",
        "step_seconds": "生成回答期间一步的目标时间（秒）；若能容纳 32 个 token，可长到三倍；"
        "CPU 上只有长提示词的一步可长到六倍。",
        "speculation": "推测解码：在更快的地方，用提示词里重复的内容（n-gram）作草稿。",
        "repack": "加载时为 CPU 重新排列权重；auto 经测量取更快的方式。",
        "flash_attn": "快速注意力（flash attention）；off 占用更多内存，在一些 ARM CPU 上更快。",
        "deterministic": "让所有回答都可重复，与带 seed 的回答一样；较慢，只用于 CPU。",
        "device": "运行模型的设备：auto、cpu、cuda，或 cuda:0,cuda:1 这样的 CUDA 设备；有 CUDA 设备时 auto 就用它。",
        "engines": "模型的引擎进程数，各有自己的 KV 缓存和一份核或 GPU；per-gpu 是每个 GPU 一个。",
        "gpu_layers": "GPU 上的层数；-1 是放得下的全部。",
        "load": "模型随服务加载，还是由第一个请求加载。",
        "idle_seconds": "多少秒没有请求就卸载模型；0 从不卸载。",
        "load_timeout": "加载模型的最长时间（秒）。",
        "step_timeout": "一步超过多少秒就重启引擎进程；0 从不。",
        "restart_wait": "请求等待引擎重启的最长时间（秒）。",
        "resume": "引擎进程崩溃后，在下一个进程里继续中断的回答。",
        "max_restarts": "连续重启的最大次数；超过以后引擎为失败状态。",
        "replicas": "集群里模型的引擎副本数，或最少和最多的数目，例如 1-4。",
        "replica_cpus": "集群里每个副本的核数；0 要 threads 规定的，或一个。",
        "replica_gpus": "集群里每个副本的 GPU 数；0 要 device 写的。",
        "replica_memory_mb": "集群里每个副本的内存（MB）；0 由模型文件的大小决定。",
        "max_output_tokens": "所有请求的回答长度上限（token）；0 只受上下文限制。",
        "default_max_tokens": "请求没有写长度时，回答的最大 token 数。",
        "model": "要提供的模型，同参数 MODEL。",
        "host": "监听的地址；0.0.0.0 监听所有网络接口。",
        "port": "监听的端口；0 取一个空闲的。",
        "model_name": "唯一模型在请求里的名字；为空时用模型自己的。",
        "alias": "唯一模型的另一个名字，例如 gpt-3.5-turbo；可重复。",
        "lora": "NAME=FILE：唯一模型加上这个 LoRA 适配器，以 NAME 提供；可重复。",
        "prefix": "NAME=FILE：唯一模型加上这个 P-Tuning v2 前缀，以 NAME 提供；可重复。",
        "pin": "含提示词共同开头的文件，固定在唯一模型的前缀缓存里；可重复。",
        "pinned_disk_mb": "缓存目录里固定前缀的最大总大小（MB）；0 不保存。",
        "prompt_disk": "把算过的提示词和回答保存在缓存目录里，重启以后不必重算。",
        "prompt_disk_mb": "保存的提示词的最大总大小（MB）；最久没用的先删除。",
        "default_model": "没有写模型的请求用的模型；为空时是第一个生成文本的。",
        "cache_dir": "转换好的模型的目录；默认是用户缓存目录里的 glmserve。",
        "hub": "`pull` 从哪个模型仓库下载；它的参数是 --from。",
        "api_key": "要求这个 API 密钥，NAME:SECRET 或 SECRET；可重复。用密钥文件更安全。",
        "api_key_file": "API 密钥的文件，每行一个。",
        "key_requests": "一个密钥每分钟的最大请求数；0 不限。",
        "key_tokens": "一个密钥每分钟的最大 token 数，提示词与回答合计；0 不限。",
        "key_concurrent": "一个密钥同时进行的最大请求数；0 不限。",
        "cors_origin": "哪些来源的网页可以从浏览器调用 API；local 是本机的网页，* 是所有，none 是没有；可重复。",
        "allowed_host": "没有密钥、只监听本机的服务接受的主机名，例如反向代理的；其网页也可以调用 API；"
        "* 接受任何名字；可重复。",
        "share_prefixes": "不同的 API 密钥共用整个前缀缓存；cached_tokens 会向一个密钥透露另一个发过的提示词。",
        "public_metrics": "没有 API 密钥也回答 /metrics，用于没有密钥的读取者，例如 endpoint picker。",
        "prompts": "你自己的任务所在的目录，每个任务一个 TOML 文件。",
        "builtin_tasks": "同时提供软件包里的任务。",
        "pin_task": "TASK 或 MODEL:TASK，其提示词开头在模型加载时固定；可重复。",
        "strict_fields": "用 400 拒绝未知的请求字段，而不是忽略并报告。",
        "page": "在 / 提供聊天页面。",
        "legacy_room": "提示词占满 max_length 时，让 /chatglm、/ 或 /baichuan 的回答超过它，至多 max_length 的四分之一"
        "和 512 token；关闭时只有一个 token，与原版相同。",
        "response_store_mb": "可用作 previous_response_id 的已存应答的最大总大小（MB）；0 不存。",
        "response_store_max": "已存应答的最大数目。",
        "batch_dir": "/v1/batches 的文件和批量任务的文件夹；不设置时为缓存文件夹中的 batches。",
        "batch_store_mb": "批量任务文件（含结果）的最大总大小（MB）；0 不提供批量任务。有密钥时，一个密钥可用一半。",
        "batch_file_mb": "批量任务上传文件的最大大小（MB）。",
        "batch_file_days": "批量任务的文件没有自己的期限时，多少天后删除；0 从不。",
        "request_timeout": "请求的最长时间（秒）；0 不限。",
        "stall_seconds": "客户端多少秒没有读取就断开；0 从不。",
        "max_connections": "连接数的上限。满了以后关闭空闲最久的连接，从不关闭有请求在进行的。",
        "max_body_mb": "请求体的最大大小（MB）。",
        "shutdown_seconds": "服务停止时，正在运行的请求还有多少秒。",
        "drain_seconds": "在此之前，/health 返回 503 而请求仍被接受的秒数。",
        "api_replicas": "集群里 API 副本的数目。有几个时，没有批量任务和已存应答，密钥的限额是每个副本各算。",
        "api_cpus": "集群里每个 API 副本的核数。",
        "scale_up_seconds": "请求多于位置持续多少秒后，集群再启动一个副本。",
        "scale_down_seconds": "请求变少持续多少秒后，集群停止一个副本。",
        "log_level": "记入日志的最低级别。",
        "log_format": "日志的格式：text 给人看，json 给程序读。",
        "log_prompts": "记录提示词和回答，其中可能有个人数据；关闭时从不记录。",
        "access_log": "每个 HTTP 请求记一行日志。",
        "tracing": "发送 OpenTelemetry 跟踪，由 OTEL_ 变量设置；需要附加组件 otel。",
    }
)
MODEL_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "model": "要提供的模型，同参数 MODEL。",
        "name": "模型在请求里的名字；为空时用模型自己的。",
        "alias": "模型在请求里的更多名字，例如 gpt-3.5-turbo。",
        "pin": "含文本的文件，固定在模型的前缀缓存里，同 --pin。",
        "variants": "适配器：[[models.variants]] 表。",
        "upstream": "运行这个模型的服务的地址，例如 http://10.0.0.7:8000/v1；不加载任何文件。",
        "upstream_model": "模型在那里的名字；为空时用 name。",
        "upstream_key_file": "那个服务的 API 密钥所在的文件，在第一行。",
        "upstream_key_env": "存有那个服务的 API 密钥的环境变量。",
        "upstream_timeout": "那个服务最多可以多少秒不发任何数据。",
    }
)
ADAPTER_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "name": "适配器在请求里的名字。",
        "lora": "这个模型的 LoRA 适配器的 GGUF 文件。",
        "prefix": "这个模型的 P-Tuning v2 前缀的 GGUF 文件。",
        "pin": "含文本的文件，固定在适配器的前缀缓存里，同 --pin。",
    }
)


def speaks_chinese(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the user's locale is a Chinese one, by the variables and their order of POSIX."""
    environ = os.environ if environ is None else environ
    chosen = next(filter(None, (environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return chosen.lower().startswith("zh")
