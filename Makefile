# Everything that CI does, one target each; `make ci` is `.ci/run`, in a new environment.
.PHONY: install lint types contracts compare check docs interpreters test slow build tables ci

install:
	pip install -e ".[cpu,test,docs]"

lint:
	ruff check .
	ruff format --check .

types:
	mypy

contracts:
	lint-imports

compare:
	parity compare resnext50_32x4d

check:
	parity check tests/parity.toml

docs:
	mkdocs build --strict

interpreters:
	.ci/interpreters

test:
	pytest

slow:
	pytest -m slow

# A wheel, under dist/.
build:
	python -m pip wheel --no-deps --wheel-dir dist .

# The tables and pages that are generated from the source.
tables:
	python -m tests.design_tables
	python -m tests.site_pages

ci:
	.ci/run
