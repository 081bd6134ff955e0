"""The chat template of Baichuan that goes into the file, for servers that render one, such as llama-server.

It gives what the server's own prompt gives, but for normalisation, which no template can do.
"""

# A round is written when it is finished: a message by itself after the token of its role, and after that the
# space that the tokenizer puts in front of every text that is not empty. System text at the start goes in front;
# later system text joins the next question.
_TEMPLATE = (
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
    "{{- 'ASSISTANT' -}}{%- if state.answer -%}{{- 'SPACE' ~ state.answer -}}{%- endif -%}"
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
    "{{- 'ASSISTANT' -}}{%- if state.answer -%}{{- 'SPACE' ~ state.answer -}}{%- endif -%}"
    "{%- elif add_generation_prompt -%}{{- 'ASSISTANT' -}}{%- endif -%}"
)


def chat_template(user: str, assistant: str, *, space_prefix: bool) -> str:
    """Return the template in Jinja, with the texts of the two role tokens."""
    space = " " if space_prefix else ""
    return _TEMPLATE.replace("USER", user).replace("ASSISTANT", assistant).replace("SPACE", space)
