# `make demo` and `make test` need Python 3.10+ with venv and pip, and nothing else: the rest comes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test bench docs lint format clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "installing the pinned packages into .venv"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python cli.py demo

test: setup lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: setup
	@$(BIN)/python benchmarks/run.py

docs: setup
	@$(BIN)/mkdocs build --strict --quiet
	@echo "built: site/index.html"

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv .import_linter_cache .mypy_cache .ruff_cache .pytest_cache build dist site *.egg-info
