# The targets for building, testing and packaging. `make help` lists them.

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=

# The number of tests that run in parallel. Tests under a real systemd mostly wait.
TEST_THREADS ?= 2

# The duration of `make soak`, in minutes.
MINUTES ?= 10

# The time that `make fuzz` spends on each of its targets, in seconds.
SECONDS ?= 10

.PHONY: help build build-recorder run run-cluster test unit-test system-test brokers soak cluster-figures lint fuzz bench bench-check bench-micro bench-million bench-baseline rhythms picture deps \
	deb deb-arm64 deb-armhf check-arm64 check-armhf test-arm64 test-32-bit deps-arm64 deny advisories reproducible book install install-recorder uninstall

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

# Both programs are built with the crates as the whole workspace needs them, so that none is compiled twice.
# A release build contains no path of this machine, so that two machines build identical packages.
CARGO_HOME ?= $(HOME)/.cargo
build build-recorder: export CARGO_ENCODED_RUSTFLAGS := $(shell printf '%s\037%s' \
	'--remap-path-prefix=$(CARGO_HOME)=/cargo' '--remap-path-prefix=$(CURDIR)=/iotmonitor')

build: ## make the release build
	$(CARGO) build --release --locked --workspace --bin iotmonitor

build-recorder:
	$(CARGO) build --release --locked --workspace --bin iotmonitor-recorder

run: ## run a demonstration, as root in a separate container, otherwise without agents
	@packaging/demo.sh

run-cluster: ## run a demonstration of three machines, of which one is cut off (as root)
	@packaging/demo-cluster.sh

test: ## run all tests; without root or a container, only those that need neither (REQUIRE=all fails then)
	@CARGO="$(CARGO)" packaging/test.sh all --test-threads=$(TEST_THREADS)

unit-test: ## run the tests that need neither root nor a container
	@CARGO="$(CARGO)" packaging/test.sh unit --test-threads=$(TEST_THREADS)

system-test: ## run the tests under a real systemd (as root)
	$(CARGO) test --workspace --locked --test system -- --test-threads=$(TEST_THREADS)

brokers: ## test the main functions with each broker of docs/brokers.md, including those from npm and PyPI (as root)
	$(CARGO) test --workspace --locked --test brokers -- --include-ignored --test-threads=$(TEST_THREADS)

soak: build ## run the fault tests in their long form: MINUTES=10 (as root)
	IOTMONITOR_SOAK_MINUTES=$(MINUTES) $(CARGO) test --workspace --locked --test faults -- --test-threads=$(TEST_THREADS)
	IOTMONITOR_SOAK_MINUTES=$(MINUTES) $(CARGO) test --workspace --locked --test failover
	IOTMONITOR_OUTAGE_SECONDS=300 $(CARGO) test --workspace --locked --test system expiries_while_the_way_out_is_down
	SCHEDULES=1000000 $(CARGO) test --release --locked --test faults schedules
	SCHEDULES=1000000 $(CARGO) test --release --locked -p iotmonitor-core --test cluster no_two_nodes
	FAULTS=2 $(CARGO) test --release --locked -p iotmonitor-core --test cluster no_two_faults
	ROUNDS=$(MINUTES) SEED=$$(date +%s) $(CARGO) test --workspace --locked --test store power -- --nocapture

cluster-figures: build ## print what a cluster of three machines costs (as root)
	IOTMONITOR_CLUSTER_FIGURES=1 $(CARGO) test --workspace --locked --test failover -- --nocapture

lint: ## check with rustfmt, clippy and shellcheck
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings
	shellcheck .ci/run packaging/*.sh tests/arm64/*.sh packaging/debian/p* recorder/debian/p* tests/machine/*.sh tests/brokers/*.sh \
		benches/peers/alternatives/*.sh \
		systemd/usr/share/doc/iotmonitor/examples/notify systemd/usr/share/iotmonitor/alive \
		systemd/usr/share/iotmonitor/notify

fuzz: ## fuzz each parser for the given time: SECONDS=10
	packaging/fuzz.sh $(SECONDS)

bench: ## compare with mosquitto_sub and with alternatives, and write the tables of docs/benchmarks.md; QUICK=1, ROWS=watched,alternatives
	$(CARGO) bench --workspace --locked --bench peers

# What is counted is the release build.
bench-check bench-baseline: export IOTMONITOR_PROGRAM = $(or $(CARGO_TARGET_DIR),target)/release/iotmonitor

bench-check: build ## fail if a message costs a tenth more instructions than benches/baseline.toml states
	$(CARGO) bench --workspace --locked --profile dev --bench regression

bench-micro: ## time the topic index, the deadline table, the queue of restores, the store's commits and the history separately
	$(CARGO) bench --workspace --locked --bench micro

bench-million: ## simulate a million devices against the core alone
	$(CARGO) bench --locked --package iotmonitor-core --bench million

bench-baseline: build ## record the present cost of a message as the baseline
	$(CARGO) bench --workspace --locked --profile dev --bench regression -- renew

rhythms: ## print how well automatic timeouts fit devices of many kinds over half a year
	RHYTHM_DAYS=180 $(CARGO) test --workspace --locked --test discovery rhythms -- --nocapture

picture: ## renew the README's picture of the status page (as root, with pngquant)
	$(CARGO) test --workspace --locked --test system a_browser_shows
	pngquant --force --strip --output docs/status-page.png 64 target/tmp/page-service.png

deps: ## install the missing Debian packages that building and testing need (as root)
	@packaging/deps.sh

deb: build build-recorder ## build target/debian/iotmonitor_*.deb and iotmonitor-recorder_*.deb
	@packaging/deb.sh
	@packaging/deb.sh --package iotmonitor-recorder

deb-arm64: ## build the package for machines such as a Raspberry Pi with a 64-bit system (as root)
	@packaging/cross.sh arm64

deb-armhf: ## build the package for systems of 32 bits on ARM (as root)
	@packaging/cross.sh armhf

check-arm64: ## build the package for arm64 without optimization, and run its program with qemu-user (as root)
	@packaging/cross.sh arm64 check

check-armhf: ## build the package for armhf without optimization, and run its program with qemu-user (as root)
	@packaging/cross.sh armhf check

test-arm64: deb-arm64 ## test the package in an emulated arm64 machine, and the core and the store with qemu-user (as root)
	@tests/arm64/run.sh target/debian/iotmonitor_*_arm64.deb
	@packaging/cross.sh arm64 test

test-32-bit: ## run the unit tests of the core and the tests of the store as programs of 32 bits (as root)
	@packaging/cross.sh i386 test

deps-arm64: deps ## install the missing Debian packages that `make test-arm64` needs (as root)
	@packaging/deps.sh arm64

deny: ## check the licences, sources and duplicates of the dependencies
	@packaging/deny.sh licenses bans sources

advisories: ## check the dependencies for known vulnerabilities, from rustsec.org
	@packaging/deny.sh advisories

reproducible: ## build the packages here and in another directory, and compare the results
	@packaging/reproducible.sh

book: ## write the pages of docs/ as HTML into target/book
	@packaging/book.sh

install: build ## build and install on this machine: PREFIX=/usr, DESTDIR= (as root)
	@packaging/manual.sh
	@packaging/install.sh "$(DESTDIR)" "$(PREFIX)"

install-recorder: build-recorder ## build and install iotmonitor-recorder on this machine, in the same way (as root)
	@packaging/manual.sh
	@packaging/install.sh "$(DESTDIR)" "$(PREFIX)" iotmonitor-recorder

uninstall: ## remove the installed files; the configuration and the store stay
	@packaging/uninstall.sh "$(DESTDIR)" "$(PREFIX)"
