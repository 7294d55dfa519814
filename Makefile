# Everything a person or a machine does with the sources; `make help` lists it.

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=

# Tests at the same time; those under a real systemd mostly wait.
TEST_THREADS ?= 2

# How long `make soak` goes on.
MINUTES ?= 10

# How long `make fuzz` tries each of its targets.
SECONDS ?= 10

.PHONY: help build run test unit-test system-test brokers soak lint fuzz bench bench-check bench-micro bench-baseline rhythms picture deps \
	deb deny advisories reproducible book install uninstall

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

build: ## the release build
	$(CARGO) build --release --locked

run: ## a demonstration: in a container of its own as root, else without agents
	@packaging/demo.sh

test: ## all tests; without root or a container those that need neither (REQUIRE=all fails then)
	@CARGO="$(CARGO)" packaging/test.sh all --test-threads=$(TEST_THREADS)

unit-test: ## the tests that need neither root nor a container
	@CARGO="$(CARGO)" packaging/test.sh unit --test-threads=$(TEST_THREADS)

system-test: ## the tests under a real systemd (as root)
	$(CARGO) test --locked --test system -- --test-threads=$(TEST_THREADS)

brokers: ## the main job on each broker of docs/brokers.md, those of npm and PyPI too (as root)
	$(CARGO) test --locked --test brokers -- --include-ignored --test-threads=$(TEST_THREADS)

soak: build ## the fault tests in their long form: MINUTES=10 (as root)
	IOTMONITOR_SOAK_MINUTES=$(MINUTES) $(CARGO) test --locked --test faults -- --test-threads=$(TEST_THREADS)
	SCHEDULES=1000000 $(CARGO) test --release --locked --test faults schedules
	ROUNDS=$(MINUTES) SEED=$$(date +%s) $(CARGO) test --locked --test store power -- --nocapture

lint: ## formatting, clippy and shellcheck
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings
	shellcheck .ci/run packaging/*.sh packaging/debian/p* tests/machine/*.sh tests/brokers/*.sh \
		systemd/usr/share/doc/iotmonitor/examples/notify systemd/usr/share/iotmonitor/alive \
		systemd/usr/share/iotmonitor/notify

fuzz: ## try each parser with bytes of any kind for so long: SECONDS=10
	packaging/fuzz.sh $(SECONDS)

bench: ## measure beside mosquitto_sub and write the table of docs/benchmarks.md; QUICK=1, ROWS=watched,states
	$(CARGO) bench --locked --bench peers

bench-check: ## fail where a message costs a tenth more instructions than benches/baseline.toml says
	$(CARGO) bench --locked --profile counted --bench regression

bench-micro: ## time the topic index, the deadline table and the store's commits alone
	$(CARGO) bench --locked --bench micro

bench-baseline: ## take the present cost of a message as the baseline
	$(CARGO) bench --locked --profile counted --bench regression -- renew

rhythms: ## print how automatic timeouts fit devices of many kinds in half a year
	RHYTHM_DAYS=180 $(CARGO) test --locked --test discovery rhythms -- --nocapture

picture: ## take the README's picture of the status page anew (as root, with pngquant)
	$(CARGO) test --locked --test system a_browser_shows
	pngquant --force --strip --output docs/status-page.png 64 target/tmp/page-service.png

deps: ## install what building and testing need from Debian's packages, where it is missing (as root)
	@packaging/deps.sh

# No path of this machine goes into the package, so that two machines pack the same.
CARGO_HOME ?= $(HOME)/.cargo
deb: export CARGO_ENCODED_RUSTFLAGS := $(shell printf '%s\037%s' \
	'--remap-path-prefix=$(CARGO_HOME)=/cargo' '--remap-path-prefix=$(CURDIR)=/iotmonitor')

deb: ## build target/debian/iotmonitor_*.deb; TARGET=aarch64-unknown-linux-gnu for another machine
	$(CARGO) build --release --locked $(if $(TARGET),--target $(TARGET))
	@packaging/deb.sh $(if $(TARGET),--target $(TARGET))

deny: ## licences, sources and duplicates of the dependencies
	@packaging/deny.sh licenses bans sources

advisories: ## known defects of the dependencies, from rustsec.org
	@packaging/deny.sh advisories

reproducible: ## pack twice, and compare the packages
	@packaging/reproducible.sh

book: ## write the pages of docs/ as HTML into target/book
	@packaging/book.sh

install: build ## build, and install on this machine: PREFIX=/usr, DESTDIR= (as root)
	@packaging/manual.sh
	@packaging/install.sh "$(DESTDIR)" "$(PREFIX)"

uninstall: ## remove what install put there; the configuration and the store stay
	@packaging/uninstall.sh "$(DESTDIR)" "$(PREFIX)"
