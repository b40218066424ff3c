# Every target sets up .venv when needed and does nothing else besides its own job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test check browser bench docs clean

demo: $(VENV)/.base
	$(BIN)/reidkit demo

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The tests of the page need a browser; without one they are skipped.
browser:
	command -v chromium || { apt-get update --quiet && apt-get install --yes --quiet chromium; }

bench: $(VENV)/.test
	$(BIN)/python benchmarks/drawing.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/deployments.py
	$(BIN)/python benchmarks/scoring.py --parts market,market-rerank,msmt17
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/training.py --batch 16
	$(BIN)/python docs/generate.py

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[serve]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[dev,serve,client,postgres]'
	touch $@

$(VENV)/.test: $(VENV)/.dev
	$(PIP) --editable '.[dev,torch,openvino,serve,client,postgres,ray,tensorboard]'
	touch $@
