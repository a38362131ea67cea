# `make` alone says what there is. Everything is installed into .venv here; no path below is absolute, so that a checkout
# may lie in a folder with spaces in its name.

# Which MXNet, cpu or cu112: the one that is installed, else the one that suits this machine.
ifndef EXTRA
EXTRA := $(patsubst .venv/installed-%,%,$(firstword $(wildcard .venv/installed-cpu .venv/installed-cu112)))
ifeq ($(EXTRA),)
EXTRA := $(shell sh requirements/choose_extra.sh)
endif
endif
BIN := .venv/bin
# Runs a module with the current folder last on Python's path (gluon_rnn/common/processes.py); nor does a PYTHONPATH come
# first.
RUN := PYTHONPATH= $(BIN)/python gluon_rnn/common/processes.py
# It is for another Python than .venv's.
unexport PYTHONHOME
# Every process that a test starts would compile the package anew; make clean removes what is kept of it.
unexport PYTHONDONTWRITEBYTECODE
# A stamp is written when an installation is complete, and remade when what it was made from changes.
INSTALLED := .venv/installed-$(EXTRA)
DEV := .venv/installed-dev
DOCS := .venv/installed-docs

# An interpreter that went away takes the environment with it, whatever the stamp says.
ifneq ($(wildcard $(INSTALLED)),)
ifneq ($(shell unset PYTHONHOME; $(BIN)/python -c 'print("runs")' 2>/dev/null),runs)
$(INSTALLED): again
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install dev docs pages sweep test test-quick test-kernels baseline check format doctor columns lock clean again

help:
	@echo 'make install   .venv with gluon_rnn and the MXNet that suits this machine (now: $(EXTRA))'
	@echo '               EXTRA=cpu or cu112 chooses another, PYTHON=... the interpreter (make clean first)'
	@echo 'make sweep     install, then scripts/run_sweep.py; its arguments as ARGS="--set epochs=1"'
	@echo 'make doctor    install, then check this machine and say how to fix what is missing'
	@echo 'make dev       install what developers need, too'
	@echo 'make test      dev, then run the tests, on several cores; ARGS="-k name", and -n 0 for one process;'
	@echo '               GLUON_RNN_TEST_DEVICE=gpu runs those that compute on a GPU'
	@echo 'make test-quick  the same in under a minute: without tests/bad_input, tests/regression and the tests marked slow, which'
	@echo '               run sweeps, need Ray or a browser, or train until something is learnt'
	@echo 'make test-kernels  run the numerical tests under every BLAS and instruction set that this machine can be told to'
	@echo '               use, and write docs/kernels.md; ARGS="--only mkl*" or --short for some'
	@echo 'make baseline  renew the perplexities that tests/regression compares with; the diff shows what moved'
	@echo 'make check     layout, lint, spelling and style, which subpackage imports which, and types'
	@echo 'make format    format the code and fix what ruff can fix'
	@echo 'make columns   renew results/columns.md from the descriptions in the code'
	@echo 'make pages     renew what is made by the code: in docs/ the settings, the commands and the tables, in benchmarks/'
	@echo '               the schema of sweep files'
	@echo 'make docs      build the documentation site into site/; open site/index.html'
	@echo 'make lock      remake requirements/*.txt; UPGRADE=--upgrade for the newest releases'
	@echo 'make clean     remove .venv, caches and build leftovers; results and data stay'

install: $(INSTALLED)

$(INSTALLED): setup.py requirements/build.txt requirements/$(EXTRA).txt
	@rm -f .venv/installed-*
	@sh requirements/install.sh $(EXTRA)
	@touch $@

dev: $(DEV)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || echo 'There is no Chromium here, so that the tests \
	of pages in a browser are skipped; fix: apt-get install chromium'

$(DEV): $(INSTALLED) requirements/dev.txt
	@sh requirements/install.sh dev
	@touch $@

# Laid out as in the checkout, so that a link leads to the same place in either.
docs: $(DOCS)
	@rm -rf .venv/pages && mkdir .venv/pages
	@for name in README.md CONTRIBUTING.md CHANGELOG.md LICENSE docs examples results; do ln -s ../../$$name .venv/pages; done
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH= $(BIN)/mkdocs build
	@echo 'Built: open site/index.html'

$(DOCS): $(INSTALLED) requirements/docs.txt
	@sh requirements/install.sh docs
	@touch $@

pages: $(INSTALLED)
	@PYTHONPATH= $(BIN)/python docs/make_pages.py

sweep: $(INSTALLED)
	@$(BIN)/python scripts/run_sweep.py $(ARGS)

doctor: $(INSTALLED)
	@$(BIN)/python scripts/doctor.py $(ARGS)

# One file's tests share a process and what they make there; tests/conftest.py says how many processes.
PYTEST := $(RUN) tests.on_device -n auto --dist loadfile --no-loadscope-reorder

test: $(DEV)
	@$(PYTEST) $(ARGS)

test-quick: $(DEV)
	@$(PYTEST) -m 'not slow' --ignore tests/bad_input --ignore tests/regression $(ARGS)

test-kernels: $(DEV)
	@$(RUN) tests.kernels $(ARGS)

baseline: $(DEV)
	@$(RUN) tests.regression.baselines

# mypy takes a module beside those that it checks for the one of that name, so it sees the project's own and no others.
check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell .
	PYTHONPATH= $(BIN)/lint-imports --no-logo --cache-dir .venv/imports
	@rm -rf .venv/checked && mkdir .venv/checked && ln -s ../../gluon_rnn ../../scripts .venv/checked
	cd .venv/checked && PYTHONPATH= ../bin/python ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache
	@# As a user's mypy sees the installed package: examples/ lies in no folder that has it.
	cd .venv && PYTHONPATH= bin/python bin/mypy --strict --config-file= --cache-dir ../.mypy_cache/user ../examples/program.py

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

columns: $(INSTALLED)
	@$(RUN) gluon_rnn.reporting.columns_page >results/columns.md

# One resolution for Python 3.10 and 3.11 and for both architectures; the other files take over the versions of cpu.txt.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --fork-strategy fewest --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)

lock: $(DEV)
	$(COMPILE) setup.py --extra cpu -o requirements/cpu.txt
	$(COMPILE) setup.py --extra cu112 -c requirements/cpu.txt -o requirements/cu112.txt
	$(COMPILE) setup.py --extra dev -c requirements/cpu.txt -o requirements/dev.txt
	$(COMPILE) setup.py --extra docs -c requirements/cpu.txt -c requirements/dev.txt -o requirements/docs.txt
	$(COMPILE) requirements/build.in -c requirements/cpu.txt -o requirements/build.txt
	$(COMPILE) requirements/bench.in -c requirements/cpu.txt -c requirements/build.txt -o requirements/bench.txt

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gluon_rnn scripts tests -name __pycache__ -prune -exec rm -rf {} +
