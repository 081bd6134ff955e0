#!/usr/bin/env bash
# Builds what an image runs: docker/build.sh PREFIX CMAKE-ARGUMENTS. Run from the root of the repository.
#
#   PREFIX/venv      a Python environment with everything but glmserve itself
#   PREFIX/backends  ggml's compute backends, of which the best for the machine is loaded at start
#
# llama.cpp is built for no machine in particular: one CPU backend for each generation of processors, as plug-ins.
# A plug-in that cannot be loaded, such as CUDA's where there is no driver, is passed over.
set -euo pipefail

prefix=$1
cmake_arguments=${2:-}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

python3 -m venv "$tools"
"$tools/bin/python" -m pip install --no-cache-dir --require-hashes -r requirements/build.txt

mkdir -p "$prefix/backends"
sed -n '/^llama-cpp-python==/,/[^\\]$/p' requirements/run.txt > "$tools/llama.txt"
CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(printf %q "$PWD")/cmake/lean.cmake \
  -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_BACKEND_DIR=$(printf %q "$prefix")/backends \
  $cmake_arguments" \
    "$tools/bin/python" -m pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes \
    --wheel-dir "$tools/wheels" -r "$tools/llama.txt"

python3 -m venv --without-pip "$prefix/venv"
into=("$tools/bin/python" -m pip --python "$prefix/venv/bin/python" install --no-cache-dir)
"${into[@]}" --no-deps "$tools"/wheels/*.whl
"${into[@]}" --require-hashes -r requirements/run.txt
