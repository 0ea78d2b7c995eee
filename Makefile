# make setup        an environment with the package in .venv; does nothing the second time
# make demo         the main job, end to end, on a synthetic data set: minutes on two CPU cores
# make test         the test suite, on all cores;  make test-quick   without the tests of the command lines
# make test-faults  kills, full disks and broken files, at length: minutes, see docs/reliability.md
# make test-app     the page of tools/app.py, by its HTTP interface and in a browser: needs chromium and chromedriver, see docs/app.md
# make test-upstream   the suite with the upstream packages of 2024, in .venv-upstream
# make lint         ruff, the imports between the rooms (import-linter) and the types of the core (mypy)

.PHONY: setup setup-upstream setup-app demo test test-quick test-faults test-app test-upstream lint
SETUP_INPUTS := scripts/setup_env.sh setup.py $(wildcard requirements/*.txt)
# A file of tests stays in one process, with the models that its fixtures train; a process has one thread. The order of files is
# that of tests/conftest.py.
PYTEST := -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
test test-quick test-faults test-app test-upstream: export OMP_NUM_THREADS = 1

setup: .venv/ready
setup-upstream: .venv-upstream/ready
setup-app: .venv-app/ready

.venv/ready: $(SETUP_INPUTS)
	scripts/setup_env.sh onedl .venv
	touch $@

.venv-upstream/ready: $(SETUP_INPUTS)
	scripts/setup_env.sh upstream .venv-upstream
	touch $@

# On top of .venv: what is not installed here is imported from there.
.venv-app/ready: .venv/ready requirements/app.txt
	.venv/bin/python -m venv --without-pip .venv-app
	.venv/bin/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" \
		> "$$(.venv-app/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/below.pth"
	.venv/bin/python -m pip --disable-pip-version-check --python .venv-app/bin/python install -q -r requirements/app.txt
	touch $@

demo: setup
	PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/demo.sh

test: setup
	.venv/bin/python $(PYTEST)

test-quick: setup
	.venv/bin/python $(PYTEST) -m 'not slow and not faults and not page'

test-faults: setup
	.venv/bin/python -m pytest tests/faults -m "faults or not faults" --durations=0

test-app: setup-app
	.venv-app/bin/python -m pytest tests/inference/test_page.py -m page

test-upstream: setup-upstream
	.venv-upstream/bin/python $(PYTEST)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/lint-imports
	.venv/bin/mypy
