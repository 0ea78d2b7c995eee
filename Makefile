# make setup   an environment with the package in .venv; does nothing the second time
# make demo    the main job, end to end, on a synthetic data set: minutes on two CPU cores
# make test    the test suite;  make test-upstream   the same with the upstream packages of 2024, in .venv-upstream
# make test-faults    kills, full disks and broken files, at length: minutes, see docs/reliability.md
# make lint    ruff

.PHONY: setup setup-upstream demo test test-faults test-upstream lint
SETUP_INPUTS := scripts/setup_env.sh setup.py $(wildcard requirements/*.txt)

setup: .venv/ready
setup-upstream: .venv-upstream/ready

.venv/ready: $(SETUP_INPUTS)
	scripts/setup_env.sh onedl .venv
	touch $@

.venv-upstream/ready: $(SETUP_INPUTS)
	scripts/setup_env.sh upstream .venv-upstream
	touch $@

demo: setup
	PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/demo.sh

test: setup
	.venv/bin/python -m pytest

test-faults: setup
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/faults -m "faults or not faults" --durations=0

test-upstream: setup-upstream
	.venv-upstream/bin/python -m pytest

lint: setup
	.venv/bin/ruff check .
