# A fresh machine needs `make demo` and `make test`; both set up the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODELS := control,mean_response,linear_additive,latent_additive,decoder_only

.PHONY: demo test lint viz docs setup lock clean

setup: $(READY)

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[dev]"
	touch $(READY)

demo: $(READY) ## the whole chain on the embedded real data, with several models
	$(BIN)/kedro benchmark --tasks=demo --models=$(MODELS) --jobs=2
	@echo
	@echo "report:     data/08_reporting/demo/report.html (opens offline)"
	@echo "kedro-viz:  make viz"
	@echo "MLflow:     $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"

test: $(READY) ## lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

lint: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

viz: $(READY) ## browse the pipelines, data and figures
	$(BIN)/kedro viz run

docs: $(READY) ## build the site into build/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "site: build/docs/index.html"

lock: $(READY) ## write requirements.lock from the environment
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
