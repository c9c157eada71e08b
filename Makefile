# What there is to do here. Everything works from a fresh clone: the environment is made on first use.
#
#   make test TORCH="torch>=2.14"   takes another torch than the pinned one

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
READY := .venv/.ready
# The cores that are given, not those of the machine: one test process on each.
# Each takes tests from another that has more left: long ones stand side by side.
CORES = $$($(BIN)/python -c 'from selfstudy.core.machine import cores; print(cores())')
DOCS_READY := .venv/.ready-docs
CODE := src tests benchmarks claims docs/generate.py

.PHONY: help demo test lint docs bench claims
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 18

demo: $(READY)  ## the main job on the embedded default, with a report in runs/demo
	$(BIN)/selfstudy demo --out runs/demo

test: $(READY)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist worksteal

lint: $(READY)  ## style and types
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/ruff format --check $(wildcard $(CODE))
	$(BIN)/mypy

docs: $(DOCS_READY)  ## the documentation site, in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)  ## speed against named peers, as ratios
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

claims: $(READY)  ## test every claim on all its seeds; results go to claims/results
	$(BIN)/selfstudy claim --all

# torch comes first and alone: its build (CPU or a CUDA) is the machine's matter, not the constraints'.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[test,gguf,graph,onnx,text,label,png,ray]'
	touch $@

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[docs]'
	touch $@
