#!/usr/bin/env bash
# Installs glmserve itself into PREFIX/app, started by the Python of PREFIX/venv: docker/install-app.sh PREFIX
# Run from the root of the repository. What it depends on is installed by build.sh.
set -euo pipefail

prefix=$1
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

python3 -m venv "$tools"
"$tools/bin/python" -m pip install --no-cache-dir --require-hashes -r requirements/build.txt
"$tools/bin/python" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$tools/wheels" .

# The interpreter's path goes into the first line of the command; where there is none yet, one is put there.
[ -e "$prefix/venv" ] || python3 -m venv --without-pip "$prefix/venv"
"$tools/bin/python" -m pip --python "$prefix/venv/bin/python" install --no-deps --target "$prefix/app" \
    "$tools"/wheels/*.whl

# The image's health check: exit status 0 while the server answers that its models take requests.
cat > "$prefix/app/bin/glmserve-health" <<PYTHON
#!$prefix/venv/bin/python
import os, urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever HTTP_PROXY says
direct.open(f"http://127.0.0.1:{os.environ['GLMSERVE_PORT']}/health", timeout=4)
PYTHON
chmod +x "$prefix/app/bin/glmserve-health"
