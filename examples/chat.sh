#!/usr/bin/env bash
# Streams an answer: each line that begins with "data: " is a piece of it.
set -euo pipefail

curl -sN "${GLMSERVE_URL:-http://127.0.0.1:8000}/v1/chat/completions" \
  -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "你好"}], "stream": true}'
