# Everything a fresh machine needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# bubblewrap, mksh and toybox make the emulated phone; pocl is its second OpenCL driver;
# adb is Debian's older client, against which the phone is tested as well; the dataset is what the
# example's images were taken from.
DEMO_PACKAGES := bubblewrap mksh toybox
TEST_PACKAGES := $(DEMO_PACKAGES) pocl-opencl-icd adb dataset-fashion-mnist

.PHONY: help demo test check format clean packages-demo packages-test

help:
	@echo "make demo    install into $(VENV) and tune a real model on an emulated phone"
	@echo "make test    install and run all checks and tests"
	@echo "make check   ruff, mypy --strict and the import-direction test"
	@echo "make format  let ruff format the sources"
	@echo "make clean   stop emulated phones of this checkout, remove $(VENV) and what was built"

demo: packages-demo $(VENV)/.demo
	$(BIN)/droidmace tune --emulate --config configs/fashion_mnist.yml --out out/demo

test: packages-test $(VENV)/.dev check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	-[ ! -x $(BIN)/droidmace ] || $(BIN)/droidmace phone stop --all
	rm -rf $(VENV) out/demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

packages-demo:
	@sh .ci/packages.sh $(DEMO_PACKAGES)

packages-test:
	@sh .ci/packages.sh $(TEST_PACKAGES)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is older than 3.11; fix: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh .ci/packages.sh python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[emulator,reference]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[emulator,reference,convert,dev]'
	touch $(VENV)/.demo $@
