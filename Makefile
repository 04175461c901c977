# make reproduce   the embedded study, from nothing to tables, report and MLflow (2 cores, no GPU)
# make test        the tests
# make test-plain-cpu  the tests of arithmetic, with the kernels of an older CPU
# make ui          the MLflow UI on localhost
# make lint        ruff, mypy, import contracts, snakefmt, snakemake --lint
# make benchmarks  speed, memory and coverage of intervals (an hour, 2 cores)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PORT ?= 5000
STUDY ?= embedded

.PHONY: reproduce test test-plain-cpu ui lint benchmarks
.DEFAULT_GOAL := reproduce

# The stamp comes last: a virtual environment without it is unfinished and is made anew.
$(STAMP): envs/requirements.lock envs/peers.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -e $(STAMP) || rm -rf $(VENV)
	@test -e $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r envs/requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r envs/peers.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $(STAMP)

reproduce: $(STAMP)
	$(BIN)/owlore run --cores all

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# No vector instructions beyond SSE 4.1 in oneDNN's kernels, none chosen at run time in torch's own,
# and MKL's matrix products in the order that suits any CPU. A tolerance that only holds for the
# kernels of the CPU at hand fails here.
PLAIN_CPU := ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE
test-plain-cpu: $(STAMP)
	$(PLAIN_CPU) $(BIN)/python -m pytest -n 2 --dist loadfile -m arithmetic

# A moved results folder is logged again first: MLflow stores absolute paths.
ui: $(STAMP)
	$(BIN)/owlore track --study results/$(STUDY)/study.json --rebuild
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri sqlite:///results/$(STUDY)/mlflow/mlflow.db

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check workflow
	$(BIN)/snakemake --lint

benchmarks: $(STAMP)
	$(BIN)/python benchmarks/outliers.py
	$(BIN)/python benchmarks/projector.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/floors.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/shared_prefix.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/answers.py
	$(BIN)/python benchmarks/sharded.py
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/memory.py
