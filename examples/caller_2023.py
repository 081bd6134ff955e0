"""A program for the api.py of ChatGLM2-6B as it was written in 2023: only the address is another one."""

import json
import os

import requests

URL = os.environ.get("GLMSERVE_URL", "http://127.0.0.1:8000")


def chat(prompt, history):
    data = json.dumps({"prompt": prompt, "history": history, "max_length": 2048, "top_p": 0.7, "temperature": 0.95})
    response = requests.post(URL, data=data, headers={"Content-Type": "application/json"})
    result = response.json()
    return result["response"], result["history"], result["status"], result["time"]


history = []
for question in ("你好", "你是谁？"):
    answer, history, status, time = chat(question, history)
    print(f"[{time}] {status} {question} -> {answer}")
print(len(history), "rounds")
