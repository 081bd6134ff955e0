"""Programs as they were written for the original, with only the address changed."""

import json
import re
import shutil
import subprocess

import pytest
import requests


def test_the_request_script(server_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It sends its body as text, with an empty string for every number, and prints what it reads."""
    headers = {"Content-Type": "application/json"}
    data = {"prompt": "", "history": [], "max_length": "", "top_p": "", "temperature": ""}

    res = requests.post(f"{server_url}/chatglm", headers=headers, data=json.dumps(data))
    result = json.loads(res.text)
    print(json.dumps(result, indent=False, ensure_ascii=False))

    assert result["status"] == 200
    assert result["history"] == [["", result["response"]]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", result["time"])
    assert '"response"' in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("headers", [["-H", "Content-Type: application/json"], []])
@pytest.mark.parametrize("path", ["/chatglm", "/"])
def test_the_curl_line(server_url: str, path: str, headers: list[str]) -> None:
    body = '{"prompt": "你好", "history": []}'
    command = ["curl", "-sS", "-X", "POST", server_url + path, *headers, "-d", body]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert list(result) == ["response", "history", "status", "time"]
    assert result["history"] == [["你好", result["response"]]]


def test_a_home_made_client_that_keeps_only_the_answers(server_url: str) -> None:
    history: list[list[str | None]] = []
    for prompt in ("你好", "你是谁？"):
        body = {"prompt": prompt, "history": history, "max_length": 10000, "temperature": 0.01}
        reply = requests.post(server_url, json=body, timeout=60).json()
        history.append([None, reply["response"]])
        assert len(reply["history"]) == len(history)
