"""What two programs that write code send, field by field as captured from them; texts and tools are cut short."""

from typing import Any

_EPHEMERAL = {"type": "ephemeral"}
_SCHEMA = "https://json-schema.org/draft/2020-12/schema"

CLAUDE_CODE: dict[str, Any] = {
    "model": "chatglm2-tiny",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nToday is a day.\n</system-reminder>"},
                {"type": "text", "text": "say hi"},
            ],
        },
        {"role": "system", "content": "Available agent types for the Agent tool:\n- claude"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "They want a greeting.", "signature": "c2lnbmF0dXJl"},
                {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "echo hi"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "tool_use_id": "toolu_1", "type": "tool_result", "content": "hi", "is_error": False,
                    "cache_control": _EPHEMERAL,
                }
            ],
        },
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.9d2; cc_entrypoint=sdk-cli;"},
        {"type": "text", "text": "You are an agent.", "cache_control": _EPHEMERAL},
        {"type": "text", "text": "Be brief.", "cache_control": _EPHEMERAL},
    ],
    "tools": [
        {
            "name": "Bash",
            "description": "Executes a command.",
            "input_schema": {
                "$schema": _SCHEMA,
                "type": "object",
                "properties": {
                    "command": {"description": "The command to execute", "type": "string"},
                    "timeout": {"description": "Milliseconds", "type": "number"},
                    "run_in_background": {"type": "boolean"},
                },
                "required": ["command"],
                "additionalProperties": False,
            },
        },
        {
            "name": "WebFetch",
            "description": "Fetches a page.",
            "input_schema": {
                "$schema": _SCHEMA,
                "type": "object",
                "properties": {"url": {"type": "string", "format": "uri"}},
                "required": ["url"],
                "additionalProperties": False,
            },
        },
    ],
    "metadata": {"user_id": '{"device_id":"0","account_uuid":"","session_id":"1"}'},
    "max_tokens": 32000,
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "stream": True,
}  # fmt: skip
"""The second request of Claude Code 2.1, to ``/v1/messages?beta=true``, with the thinking that a model would add."""


def _said(role: str, *texts: str) -> dict[str, Any]:
    parts = [{"type": "input_text", "text": text} for text in texts]
    return {"type": "message", "id": f"msg_{role}", "role": role, "content": parts}


CODEX: dict[str, Any] = {
    "model": "chatglm2-tiny",
    "stream": True,
    "input": [
        _said("developer", "You are a coding agent."),
        _said("developer", "<skills_instructions>", "<permissions instructions>"),
        _said("user", "<environment_context>"),
        _said("user", "say hi using the shell"),
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "content": None,
            "encrypted_content": "ZW5j",
        },
        {
            "type": "function_call", "id": "fc_1", "name": "exec_command", "arguments": '{"cmd": "echo hi"}',
            "call_id": "call_1",
        },
        {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": "Output:\nhi\n"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "exec_command",
            "description": "Runs a command.",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {
                    "cmd": {"type": "string", "description": "Shell command to execute."},
                    "prefix_rule": {"type": "array", "items": {"type": "string"}},
                    "sandbox_permissions": {"type": "string", "enum": ["use_default", "require_escalated"]},
                    "yield_time_ms": {"type": "number"},
                },
                "required": ["cmd"],
                "additionalProperties": False,
            },
        },
        {
            "type": "namespace",
            "name": "multi_agent_v1",
            "description": "Sub-agents.",
            "tools": [{"type": "function", "name": "close_agent", "strict": False, "parameters": {"type": "object"}}],
        },
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": ""}},
        {"type": "web_search", "external_web_access": True},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a22860-1d56-7402-896e-2fe6e0c0e360",
    "client_metadata": {"session_id": "01a22860", "x-codex-window-id": "01a22860:0"},
}  # fmt: skip
"""The second request of Codex CLI 0.171, to ``/v1/responses``."""
