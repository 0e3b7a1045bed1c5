# Two commands matter to a newcomer: `make run` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := .venv-peers
AUDIT  := .venv-audit
ARGS   ?=
WORKERS ?= 2
CONFIG ?= margincast.toml

.PHONY: setup run test check format bench bench-http fuzz results docs notebooks site screenshots audit sbom lock clean

setup: $(STAMP)

# The lock file names every package with its hash and no index; the build tools come from it too.
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

run: setup
	$(BIN)/margincast run --config $(CONFIG) $(ARGS)

# Files of tests are spread over processes, the longest first (tests/conftest.py); WORKERS=0 runs
# all in this one, one after another.
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks

# The endpoint over the wire beside its peers; ARGS="--only closed_loop --seconds 5" makes it shorter.
bench-http: setup $(PEERS)/.installed
	$(BIN)/python -m benchmarks.http $(ARGS)

# The peers' packages stay out of the project's environment and lock file.
$(PEERS)/.installed: benchmarks/peers/requirements.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

fuzz: setup
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

# The jobs on real data, docs/results.md and the README's tables; over an hour on two cores.
results: setup
	$(BIN)/python -m research.pages.results $(ARGS)

# Generated pages and pictures that are committed.
docs: setup
	$(BIN)/python -m research.pages.features
	$(BIN)/python -m research.pages.pictures

# The notebooks with outputs in var/notebooks, which `make site` then shows. They read the champion
# in var/, which is trained if there is none.
notebooks: setup var/bundles/champion
	$(BIN)/python -m research.pages.notebooks

var/bundles/champion: | $(STAMP)
	$(BIN)/margincast run --config margincast.toml --once

# The documentation site in var/site; a broken link or a page outside the navigation fails the build.
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "var/site/index.html; with search: $(BIN)/python -m mkdocs serve"

# Pictures of the console's pages; ARGS="--url http://127.0.0.1:8000" takes them of a running endpoint.
screenshots: setup
	$(BIN)/python -m research.pages.screenshots $(ARGS)

# Known vulnerabilities of the locked packages, from the service that pip-audit asks. Where it cannot
# be reached nothing was checked, and the last line says so.
audit: $(AUDIT)/.installed
	@mkdir -p var && rm -f var/audit.json
	@$(AUDIT)/bin/pip-audit --disable-pip --require-hashes --requirement requirements.lock --timeout 10 \
	    --progress-spinner off --format json --output var/audit.json >var/audit.log 2>&1 || true
	@$(PYTHON) deploy/audit/report.py var/audit.json

$(AUDIT)/.installed: deploy/audit/requirements.lock
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# What each installation consists of, in CycloneDX 1.6; the same bytes from the same lock file.
sbom: setup
	@mkdir -p var/sbom
	@for name in serving training; do \
	    $(BIN)/cyclonedx-py requirements deploy/container/$$name.lock --pyproject pyproject.toml --mc-type application \
	        --output-reproducible --spec-version 1.6 --output-format JSON --output-file var/sbom/$$name.json || exit 1; \
	done
	@echo "var/sbom/serving.json and var/sbom/training.json"

# Needs uv. Writes hashes and environment markers, no index address. The images install parts of the
# same versions.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet
lock:
	$(COMPILE) pyproject.toml --all-extras --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra postgres --extra jwt --constraint requirements.lock --output-file deploy/container/serving.lock
	$(COMPILE) pyproject.toml --extra postgres --extra jwt --extra training --constraint requirements.lock --output-file deploy/container/training.lock
	$(COMPILE) deploy/container/build.in --constraint requirements.lock --output-file deploy/container/build.lock
	$(COMPILE) deploy/audit/requirements.in --output-file deploy/audit/requirements.lock
	$(COMPILE) benchmarks/peers/requirements.in --output-file benchmarks/peers/requirements.lock

clean:
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	rm -rf __pycache__/kernels-*
