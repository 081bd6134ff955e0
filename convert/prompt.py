"""The chat template that goes into the file, for servers that render one, such as llama-server.

It gives the text of the authors' ``build_prompt`` after the two tokens [gMASK] and sop. A caller tokenises
the rendered text with special tokens parsed: the two names become their ids, and the text after them starts
with the tokenizer's space, as when it is encoded alone.
"""

# The names of the two special tokens stand in separate strings on purpose: llama.cpp's list of known
# templates goes by substrings, and would take "[gMASK]<sop>" for GLM-4 and "[gMASK]sop" for ChatGLM3. Not
# recognised, the template is refused there, which is better than a wrong prompt.
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
