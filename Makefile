# `make demo` and `make test` do everything by themselves, on any machine with Python 3.11 and a C++ compiler.
.PHONY: demo test check bench setup setup-dev

demo: setup
	.venv/bin/python agent.py "/annotate demo/abstract.md"

test: setup-dev
	.venv/bin/pytest -n 2 --cov

check: setup-dev
	.venv/bin/ruff format --check . scripts/setup
	.venv/bin/ruff check . scripts/setup
	.venv/bin/mypy

bench: setup-dev
	.venv/bin/python -m evals.bench

setup:
	@scripts/setup

setup-dev:
	@scripts/setup dev
