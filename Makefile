# `make run` needs Python 3.11+ and make, and nothing else; `make help` lists what there is.

PYTHON ?= python3
ARGS ?=
export PYTHON

# Scale-out drivers are installed only for those who use them: python-socketio imports every one that it finds.
REQUIREMENTS = requirements
ifneq ($(filter postgres%,$(DATABASE_URL))$(REDIS_URL),)
REQUIREMENTS = requirements-scale
endif
ifeq ($(RABBITMQ_ENABLED),true)
RABBITMQ = .venv/requirements-rabbitmq.stamp
endif

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

run: setup ## set up what is missing, then start the server
	@.venv/bin/python manage.py migrate --verbosity 0
	@.venv/bin/python manage.py bootstrap
	@exec .venv/bin/python manage.py serve

test: setup-dev ## run the tests, on SQLite and on PostgreSQL: make test ARGS="-k name"
	@PATH="$$PATH:$(CURDIR)/.node-venv/bin" sh .ci/test $(ARGS)

test-slow: setup-dev ## run the slow tests, which `make test` leaves out
	@PATH="$$PATH:$(CURDIR)/.node-venv/bin" sh .ci/test --slow $(ARGS)

test-docs: setup-dev ## run every snippet and command of the documents, `make run` in a fresh clone too
	@PATH="$$PATH:$(CURDIR)/.node-venv/bin" sh .ci/test-docs $(ARGS)

lint: .venv/requirements-dev.stamp ## check style, types, the walls between rooms, and migrations
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy
	.venv/bin/lint-imports
	.venv/bin/python manage.py makemigrations --check --dry-run

format: .venv/requirements-dev.stamp ## sort the imports and lay out the code
	.venv/bin/python -m ruff check --select I --fix
	.venv/bin/python -m ruff format

bench: .venv/requirements-bench.stamp ## measure against Node's socket.io and stock python-socketio (20 minutes); ARGS=--help
	@sh .ci/client --dev
	@PATH="$$PATH:$(CURDIR)/.node-venv/bin" .venv/bin/python -m bench.run $(ARGS)

bench-quick: ## the same in under 3 minutes, less exactly
	@$(MAKE) --no-print-directory bench ARGS="--quick $(ARGS)"

bench-deliveries: .venv/requirements-bench.stamp ## measure webhooks: deliveries a second, and what dead endpoints cost
	@.venv/bin/python -m bench.deliveries

bench-reconnect: .venv/requirements-dev.stamp ## measure how soon 5,000 clients are back after a crash
	@.venv/bin/python -m bench.reconnect

bench-pages: .venv/requirements-dev.stamp ## measure the admin's pages with a million rows a table
	@.venv/bin/python -m bench.pages

limits: .venv/requirements.stamp ## write docs/limits.md from instances/bounds/
	@.venv/bin/python -m instances.bounds > docs/limits.md

events: .venv/requirements.stamp ## write docs/events.md from instances/events/types.py
	@.venv/bin/python -m instances.events > docs/events.md

rights: .venv/requirements.stamp ## write docs/rights.md from instances/access/rights.py
	@.venv/bin/python -m instances.access.rights > docs/rights.md

compatibility: .venv/requirements.stamp ## write docs/compatibility.md from instances/evolution_routes/
	@.venv/bin/python manage.py shell --no-imports -c \
		"from instances.evolution_routes import document; print(document(), end='')" > docs/compatibility.md

setup: .venv/$(REQUIREMENTS).stamp $(RABBITMQ) ## install what `make run` needs
	@sh .ci/client 2>/dev/null || echo "The browser client (/socket.io/socket.io.js) is missing: npm was not to be had." \
		"The server runs without it; to get it, install Node.js or connect to the network, then 'make client'."

setup-dev: .venv/requirements-dev.stamp ## install what the tests and checks need
	@sh .ci/client --dev

client: ## install the Socket.IO client for browsers and tests
	@sh .ci/client

lock: .venv/requirements-dev.stamp ## pin what the *.in files and package.json ask for: make lock ARGS=--upgrade
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-scale.in -c requirements.txt -o requirements-scale.txt
	$(COMPILE) requirements-rabbitmq.in -c requirements.txt -o requirements-rabbitmq.txt
	$(COMPILE) requirements-dev.in -c requirements-scale.txt -c requirements-rabbitmq.txt -o requirements-dev.txt
	$(COMPILE) requirements-bench.in -c requirements-dev.txt -o requirements-bench.txt
	npm install --package-lock-only

COMPILE = .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(ARGS)

clean: ## remove all that was installed or cached; the server's data in var/ stays
	rm -rf .venv .venv-tmp .node-venv node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis test-results bench/work
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says that its lock file is installed. A larger set holds the smaller ones, at the same versions, and sets
# their stamps too: after `make test`, `make run` has nothing to install.
COVERED_BY_requirements = requirements
COVERED_BY_requirements-scale = requirements requirements-scale
COVERED_BY_requirements-rabbitmq = requirements-rabbitmq
COVERED_BY_requirements-dev = requirements requirements-scale requirements-rabbitmq requirements-dev
COVERED_BY_requirements-bench = requirements requirements-bench

.venv/%.stamp: %.txt .venv/ready
	@echo "Installing $< into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $(COVERED_BY_$*:%=.venv/%.stamp)

.venv/ready:
	@sh .ci/venv .venv
	@touch $@

# An upgrade of the system's Python can take away the one that .venv points to: then it is made anew.
ifeq ($(wildcard .venv/bin/python),)
.PHONY: .venv/ready
endif

.PHONY: help run test test-slow test-docs lint format bench bench-quick bench-deliveries bench-reconnect bench-pages limits events rights compatibility setup setup-dev client lock clean
