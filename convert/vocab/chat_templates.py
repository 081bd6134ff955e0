"""The chat templates that go into the files, for servers that render one, such as llama-server.

A caller tokenises the rendered text with special tokens parsed: their names become their ids, and the text after
each starts with the tokenizer's space (where it puts one), as when it is encoded alone. For ChatGLM2 that gives the
authors' ``build_prompt`` after the two tokens [gMASK] and sop.
"""

# The names of the two special tokens stand in separate strings on purpose: llama.cpp's list of known
# templates goes by substrings, and would take "[gMASK]<sop>" for GLM-4 and "[gMASK]sop" for ChatGLM3. Not
# recognised, the template is rejected there, which is better than a wrong prompt.
#
# ChatGLM2 has no system role: its text goes before the next question. Messages of one speaker in a row are
# joined by a line break, and an answer that nobody asked for gets an empty question.
CHATGLM2_TEMPLATE = (
    "{{- '[gMASK]' -}}{{- '<sop>' -}}"
    "{%- set state = namespace(round=1, asked=false, answered=false, system='') -%}"
    "{%- for message in messages -%}"
    "{%- if state.answered and message['role'] != 'assistant' -%}"
    "{{- '\\n\\n' -}}"
    "{%- set state.round = state.round + 1 -%}"
    "{%- set state.asked = false -%}"
    "{%- set state.answered = false -%}"
    "{%- endif -%}"
    "{%- if message['role'] == 'user' or message['role'] == 'assistant' -%}"
    "{%- if not state.asked -%}{{- '[Round ' ~ state.round ~ ']\\n\\n问：' -}}{%- endif -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- if state.asked -%}{{- '\\n' -}}{%- endif -%}"
    "{{- state.system ~ message['content'] -}}"
    "{%- set state.system = '' -%}"
    "{%- else -%}"
    "{%- if state.answered -%}{{- '\\n' -}}{%- else -%}{{- '\\n\\n答：' -}}{%- endif -%}"
    "{{- message['content'] -}}"
    "{%- set state.answered = true -%}"
    "{%- endif -%}"
    "{%- set state.asked = true -%}"
    "{%- else -%}"
    "{%- set state.system = state.system ~ message['content'] ~ '\\n\\n' -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt and not state.answered -%}{{- '\\n\\n答：' -}}{%- endif -%}"
)
"""Jinja; ``messages`` end with the user's."""

# The authors encode the line break after a role by itself and the content by itself, each with a space in front.
# "\n " gives the same ids: no piece holds a line break, so none is merged across it. The model itself starts an
# answer with that line break, to leave room for the name of a tool; where there are no tools it is written here, so
# that a caller need not cut it off.
CHATGLM3_TEMPLATE = (
    "{{- '[gMASK]' -}}{{- '<sop>' -}}"
    "{%- for message in messages -%}"
    "{%- set role = 'observation' if message['role'] == 'tool' else message['role'] -%}"
    "{{- '<|' ~ role ~ '|>' ~ '\\n ' ~ message['content'] -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assist' ~ 'ant|>' -}}{%- endif -%}"
    "{%- if add_generation_prompt and not tools -%}{{- '\\n' -}}{%- endif -%}"
)
"""Jinja; roles are system, user, assistant and observation (also called tool)."""

# A model that completes code: no roles, no rounds. The last message is the beginning of a program.
CODEGEEX2_TEMPLATE = "{{- '[gMASK]' -}}{{- '<sop>' -}}{{- messages[-1]['content'] -}}"
"""Jinja."""

# llama.cpp recognises this one by "[gMASK]<sop>", and what it has built in for it is the same.
GLM4_TEMPLATE = (
    "{{- '[gMASK]<sop>' -}}"
    "{%- for message in messages -%}"
    "{%- set role = 'observation' if message['role'] == 'tool' else message['role'] -%}"
    "{{- '<|' ~ role ~ '|>' ~ '\\n' ~ message['content'] -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
    "{%- if add_generation_prompt and not tools -%}{{- '\\n' -}}{%- endif -%}"
)
"""Jinja; as ChatGLM3's, without spaces."""

# A round is written when it is finished: a message by itself after the token of its role, and after that the
# space that the tokenizer puts in front of every text that is not empty. System text at the start goes in front;
# later system text joins the next question.
_BAICHUAN_TEMPLATE = (
    "{%- set state = namespace(system='', question='', answer='', begun=false, asked=false, answered=false) -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' or message['role'] == 'assistant' -%}"
    "{%- if not state.begun and state.system -%}"
    "{{- 'SPACE' ~ state.system -}}"
    "{%- set state.system = '' -%}"
    "{%- endif -%}"
    "{%- set state.begun = true -%}"
    "{%- endif -%}"
    "{%- if state.answered and message['role'] != 'assistant' -%}"
    "{{- 'USER' -}}{%- if state.question -%}{{- 'SPACE' ~ state.question -}}{%- endif -%}"
    "{{- 'ASSISTANT' -}}{%- if state.answer -%}{{- 'SPACE' ~ state.answer -}}{%- endif -%}END"
    "{%- set state.question = '' -%}"
    "{%- set state.answer = '' -%}"
    "{%- set state.asked = false -%}"
    "{%- set state.answered = false -%}"
    "{%- endif -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- if state.asked -%}{%- set state.question = state.question ~ '\\n' -%}{%- endif -%}"
    "{%- if state.system -%}{%- set state.question = state.question ~ state.system ~ '\\n\\n' -%}{%- endif -%}"
    "{%- set state.system = '' -%}"
    "{%- set state.question = state.question ~ message['content'] -%}"
    "{%- set state.asked = true -%}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{%- if state.answered -%}{%- set state.answer = state.answer ~ '\\n' -%}{%- endif -%}"
    "{%- set state.answer = state.answer ~ message['content'] -%}"
    "{%- set state.answered = true -%}"
    "{%- else -%}"
    "{%- if state.system -%}{%- set state.system = state.system ~ '\\n\\n' -%}{%- endif -%}"
    "{%- set state.system = state.system ~ message['content'] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if state.asked or state.answered -%}"
    "{{- 'USER' -}}{%- if state.question -%}{{- 'SPACE' ~ state.question -}}{%- endif -%}"
    "{%- endif -%}"
    "{%- if state.answered -%}"
    "{{- 'ASSISTANT' -}}{%- if state.answer -%}{{- 'SPACE' ~ state.answer -}}{%- endif -%}END"
    "{%- elif add_generation_prompt -%}{{- 'ASSISTANT' -}}{%- endif -%}"
)


def baichuan_template(user: str, assistant: str, *, space_prefix: bool, end: str) -> str:
    """Return Baichuan's template, with the texts of the two role tokens, and of the ``end`` after earlier answers.

    It gives the prompt of the server, but for normalisation, which no template can do.
    """
    space = " " if space_prefix else ""
    closed = _BAICHUAN_TEMPLATE.replace("END", f"{{{{- '{end}' -}}}}" if end else "")
    return closed.replace("USER", user).replace("ASSISTANT", assistant).replace("SPACE", space)
