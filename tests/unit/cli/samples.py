"""A value for each setting that is not its default: as text, as TOML, and as it is read."""

from dataclasses import dataclass
from pathlib import Path

from glmserve.config.values import Hub, Load, LogFormat, LogLevel, Quant
from glmserve.engine.config import Device, FlashAttention, KvType, Repack


@dataclass(frozen=True)
class Sample:
    text: str
    toml: str
    value: object


SAMPLES = {
    "model": Sample("some.gguf", '"some.gguf"', ("some.gguf",)),
    "host": Sample("0.0.0.0", '"0.0.0.0"', "0.0.0.0"),
    "port": Sample("9001", "9001", 9001),
    "model_name": Sample("mine", '"mine"', "mine"),
    "alias": Sample("gpt-3.5-turbo, b", '["gpt-3.5-turbo", "b"]', ("gpt-3.5-turbo", "b")),
    "prompt_format": Sample("chatglm2", '"chatglm2"', "chatglm2"),
    "chat_template": Sample("some.jinja", '"some.jinja"', "some.jinja"),
    "quant": Sample("q4_0", '"q4_0"', Quant.Q4_0),
    "hub": Sample("modelscope", '"modelscope"', Hub.MODELSCOPE),
    "cache_dir": Sample("/there", '"/there"', Path("/there")),
    "context": Sample("512", "512", 512),
    "parallel": Sample("3", "3", 3),
    "cache_tokens": Sample("2048", "2048", 2048),
    "max_waiting": Sample("5", "5", 5),
    "repack": Sample("off", '"off"', Repack.OFF),
    "flash_attn": Sample("on", '"on"', FlashAttention.ON),
    "kv_type": Sample("q8_0", '"q8_0"', KvType.Q8_0),
    "threads": Sample("2", "2", 2),
    "threads_batch": Sample("4", "4", 4),
    "batch_size": Sample("64", "64", 64),
    "step_seconds": Sample("0.5", "0.5", 0.5),
    "speculation": Sample("false", "false", False),
    "deterministic": Sample("true", "true", True),
    "device": Sample("cpu", '"cpu"', Device.CPU),
    "engines": Sample("2", "2", "2"),
    "gpu_layers": Sample("7", "7", 7),
    "load": Sample("first_use", '"first_use"', Load.FIRST_USE),
    "idle_seconds": Sample("90.5", "90.5", 90.5),
    "lora": Sample("a=/a.gguf, b=/b.gguf", '["a=/a.gguf", "b=/b.gguf"]', ("a=/a.gguf", "b=/b.gguf")),
    "prefix": Sample("a=/p.gguf", '["a=/p.gguf"]', ("a=/p.gguf",)),
    "pin": Sample("/a.txt, /b.json", '["/a.txt", "/b.json"]', ("/a.txt", "/b.json")),
    "pinned_disk_mb": Sample("100.5", "100.5", 100.5),
    "prompt_disk": Sample("false", "false", False),
    "prompt_disk_mb": Sample("50.5", "50.5", 50.5),
    "default_model": Sample("mine", '"mine"', "mine"),
    "load_timeout": Sample("30", "30", 30.0),
    "step_timeout": Sample("45", "45", 45.0),
    "restart_wait": Sample("1.5", "1.5", 1.5),
    "resume": Sample("false", "false", False),
    "max_restarts": Sample("2", "2", 2),
    "max_connections": Sample("99", "99", 99),
    "default_max_tokens": Sample("100", "100", 100),
    "api_key": Sample("secret-1, ann:secret-2", '["secret-1", "ann:secret-2"]', ("secret-1", "ann:secret-2")),
    "api_key_file": Sample("/keys", '"/keys"', Path("/keys")),
    "key_requests": Sample("60", "60", 60),
    "key_tokens": Sample("90000", "90000", 90000),
    "key_concurrent": Sample("4", "4", 4),
    "cors_origin": Sample(
        "https://a.example, https://b.example",
        '["https://a.example", "https://b.example"]',
        ("https://a.example", "https://b.example"),
    ),
    "allowed_host": Sample("a.example, ::1", '["a.example", "::1"]', ("a.example", "::1")),
    "share_prefixes": Sample("true", "true", True),
    "public_metrics": Sample("true", "true", True),
    "strict_fields": Sample("true", "true", True),
    "prompts": Sample("/prompts", '"/prompts"', Path("/prompts")),
    "builtin_tasks": Sample("false", "false", False),
    "pin_task": Sample("a, m:b", '["a", "m:b"]', ("a", "m:b")),
    "response_store_mb": Sample("1.5", "1.5", 1.5),
    "response_store_max": Sample("7", "7", 7),
    "batch_dir": Sample("/batches", '"/batches"', Path("/batches")),
    "batch_store_mb": Sample("1.5", "1.5", 1.5),
    "batch_file_mb": Sample("1.5", "1.5", 1.5),
    "batch_file_days": Sample("1.5", "1.5", 1.5),
    "request_timeout": Sample("90", "90", 90.0),
    "max_output_tokens": Sample("300", "300", 300),
    "stall_seconds": Sample("5", "5", 5.0),
    "max_body_mb": Sample("0.5", "0.5", 0.5),
    "shutdown_seconds": Sample("3", "3", 3),
    "drain_seconds": Sample("2.5", "2.5", 2.5),
    "log_level": Sample("error", '"error"', LogLevel.ERROR),
    "log_format": Sample("json", '"json"', LogFormat.JSON),
    "log_prompts": Sample("true", "true", True),
    "tracing": Sample("true", "true", True),
    "access_log": Sample("true", "true", True),
    "legacy_room": Sample("false", "false", False),
    "page": Sample("false", "false", False),
}
