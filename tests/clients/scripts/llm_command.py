"""Commands of ``llm``, configured by the file that it has for other servers.

ADDRESS KEY FOLDER COMMANDS: an empty folder, and the commands' arguments as JSON, by names under which what they print
is told.
"""

import json
import os
import sys
from pathlib import Path

address, key, folder, commands = sys.argv[1:]
os.environ["LLM_USER_PATH"] = folder
Path(folder, "extra-openai-models.yaml").write_text(f"""\
- model_id: glm
  model_name: chatglm2-tiny
  api_base: {address}/v1
  api_key_name: glmserve
  supports_schema: true
  supports_tools: true
- model_id: glm-text
  model_name: chatglm2-tiny
  api_base: {address}/v1
  api_key_name: glmserve
  completion: true
""")

# It reads its folder when it is imported. In one process, as each command would take a second to start.
from click.testing import CliRunner  # noqa: E402
from llm.cli import cli  # noqa: E402


def llm(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


llm("keys", "set", "glmserve", "--value", key)
print(json.dumps({name: llm(*arguments) for name, arguments in json.loads(commands).items()}))
