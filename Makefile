# SPDX-License-Identifier: Apache-2.0
#
# One Makefile, not recursive. It calls itself only to build a variant (sanitizers, fuzzers, analyzer) in a build directory of
# its own, and to run several goals of one command line in order. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION  := 0.1.0
BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
SAN      ?=
FUZZ     ?=
ANALYZE  ?=
FUZZ_SECONDS ?= 600

# Several goals (`make clean all`, `make deps all install`) are done one after the other, each in a make of its own: `deps` must
# have ended before the libraries are looked for.
ifneq ($(filter-out 0 1,$(words $(MAKECMDGOALS))),)

.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)
$(MAKECMDGOALS):
	@$(MAKE) --no-print-directory $@

else

# As many jobs as processors; JOBS=1 says otherwise. A make below this one shares them.
JOBS ?= $(shell nproc)
ifndef WEIR_MAKE_JOBS
export WEIR_MAKE_JOBS := $(JOBS)
MAKEFLAGS += -j$(JOBS)
endif
MAKEFLAGS += --no-print-directory

# ---- what is built ---------------------------------------------------------------------------------------------------------

SRC_DIRS  := core core/base dlq workers gateway triggers cli
SRCS      := $(filter-out cli/main.c,$(sort $(wildcard $(SRC_DIRS:%=%/*.c))))
LIB_OBJS  := $(SRCS:%.c=$(BUILD)/%.o) $(BUILD)/gen/migrations.o
MAIN_OBJ  := $(BUILD)/cli/main.o
LIB       := $(BUILD)/libweir.a
BIN       := $(BUILD)/weir

UNIT_SRCS     := $(sort $(shell find tests/unit -name 'test_*.c' 2>/dev/null))
CONTRACT_SRCS := $(sort $(wildcard tests/contract/test_*.c))
SUPPORT_SRCS  := $(sort $(shell find tests -name '*.c' ! -name 'test_*.c' ! -name '*_driver.c' ! -path 'tests/fuzz/*' 2>/dev/null))
FUZZ_SRCS     := $(sort $(wildcard tests/fuzz/fuzz_*.c))
DRIVER_SRCS   := $(sort $(wildcard tests/support/*_driver.c))
UNIT_BINS     := $(UNIT_SRCS:%.c=$(BUILD)/%)
CONTRACT_BINS := $(CONTRACT_SRCS:%.c=$(BUILD)/%)
FUZZ_BINS     := $(FUZZ_SRCS:%.c=$(BUILD)/%)
DRIVER_BINS   := $(DRIVER_SRCS:%.c=$(BUILD)/%)
SUPPORT_LIB   := $(BUILD)/tests/libsupport.a
SUPPORT_OBJS  := $(SUPPORT_SRCS:%.c=$(BUILD)/%.o)

# ---- how -------------------------------------------------------------------------------------------------------------------

# To use one more library: add its pkg-config name here (or its -l flag to PLAIN_LIBS) and its Debian package to
# scripts/install-deps. Next in line: libseccomp.
PKGS       := libevent_pthreads libevent librabbitmq rdkafka libpq msgpack sqlite3 jansson libcurl openssl libarchive inih glib-2.0 ncursesw
PLAIN_LIBS := -lhttp_parser -lm -pthread

CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
STD    := -std=gnu17
WARN   := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wundef -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
          -Wpointer-arith -Wwrite-strings -Wcast-qual -Wconversion -Wno-sign-conversion -Wimplicit-fallthrough=5 \
          -Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wnull-dereference
HARDEN := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fPIE
LDHARD := -pie -Wl,-z,relro,-z,now
OPT    := -O2 -g

ifneq ($(filter true 1,$(CI) $(WERROR)),)
WARN += -Werror
endif
ifneq ($(SAN),)
OPT    := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
HARDEN := -fPIE
LDHARD := -pie -fsanitize=$(SAN)
# The sanitizers' own checks confuse the flow analysis behind this one.
WARN   += -Wno-null-dereference
endif
ifneq ($(FUZZ),)
CC     := clang
WARN   := -Wall -Wextra
OPT    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LDHARD := -fsanitize=address,undefined
HARDEN :=
endif
ifneq ($(ANALYZE),)
# Leaks are LeakSanitizer's: gcc 12's analyzer cannot see that a uthash table or a list owns what is put into it.
WARN   := -fanalyzer -Werror -Wno-analyzer-malloc-leak
OPT    := -O0 -g
HARDEN :=
endif

DEFINES  := -D_GNU_SOURCE -DWEIR_VERSION='"$(VERSION)"' -DWEIR_DATADIR='"$(PREFIX)/share/weir"'
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
ALL_CFLAGS := $(STD) $(OPT) $(HARDEN) $(WARN) $(DEFINES) -I. -pthread $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS := -Wl,--as-needed $(LDHARD) $(LDFLAGS)
LIBS       := $(PKG_LIBS) $(PLAIN_LIBS)
TEST_LIBS  := -lcmocka

# ---- for everybody ---------------------------------------------------------------------------------------------------------

.PHONY: all
all: $(BIN) build/.runtimes-compiled ## build build/weir (the default)

# The runtimes' modules in compiled form: instances cannot write it, and without it each would compile them anew.
build/.runtimes-compiled: $(wildcard runtimes/*/*.py)
	@mkdir -p build
	@if command -v python3 >/dev/null; then python3 -m compileall -q runtimes; fi
	@touch $@

.PHONY: deps
deps: ## install the Debian packages that building and running need
	@scripts/install-deps build

.PHONY: test-deps
test-deps: ## install also what the tests need (RabbitMQ, PostgreSQL and Java are installed, not started)
	@scripts/install-deps build test

.PHONY: demo
demo: deps ## install, build, and show the main job on the embedded default
	@$(MAKE) all
	@scripts/demo

.PHONY: services
services: ## start a RabbitMQ, a PostgreSQL and a Kafka for a person, print their URLs, stop at Ctrl-C
	@tests/services/services

.PHONY: install
install: all ## install into PREFIX (/usr/local), below DESTDIR
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/weir
	install -d $(DESTDIR)$(PREFIX)/share/weir
	rm -rf $(DESTDIR)$(PREFIX)/share/weir/runtimes
	tar -c --exclude=__pycache__ --exclude='*.pyc' runtimes | tar -x --no-same-owner -C $(DESTDIR)$(PREFIX)/share/weir
	if command -v python3 >/dev/null; then python3 -m compileall -q -s $(DESTDIR) $(DESTDIR)$(PREFIX)/share/weir/runtimes; fi
	install -D -m 644 cli/weir.bash-completion $(DESTDIR)$(PREFIX)/share/bash-completion/completions/weir

.PHONY: clean
clean: ## remove everything that was built
	rm -rf build $(if $(filter-out build build/%,$(BUILD)),$(BUILD))

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# ---- tests and checks ------------------------------------------------------------------------------------------------------

.PHONY: tests
tests: $(UNIT_BINS) $(CONTRACT_BINS) $(DRIVER_BINS)

.PHONY: check
check: all tests ## unit tests and the contract tests of the memory and embedded backends: fast, no server
	@BUILD=$(BUILD) tests/run --no-servers unit contract

.PHONY: test
test: ## everything, with a real RabbitMQ, PostgreSQL and Kafka; last line: N passed, N failed
	@scripts/install-deps build test
	@$(MAKE) all tests
	@$(MAKE) variant-asan
	@$(MAKE) variant-fuzz
	@tests/run

.PHONY: variant-asan variant-tsan variant-fuzz
variant-asan:
	@$(MAKE) BUILD=build/asan SAN=address,undefined binaries
variant-tsan:
	@$(MAKE) BUILD=build/tsan SAN=thread binaries
variant-fuzz:
	@$(MAKE) BUILD=build/fuzz FUZZ=1 fuzzers

.PHONY: binaries
binaries: $(BIN) $(UNIT_BINS) $(CONTRACT_BINS)

.PHONY: asan
asan: variant-asan ## unit, contract and a short integration run under ASan and UBSan
	@tests/run asan

.PHONY: tsan
tsan: variant-tsan ## unit and contract tests under TSan, without librdkafka
	@tests/run tsan

.PHONY: fuzz fuzzers
fuzz: variant-fuzz ## every fuzzer for FUZZ_SECONDS (600) seconds
	@tests/run --fuzz-seconds=$(FUZZ_SECONDS) fuzz
fuzzers: $(FUZZ_BINS)

.PHONY: analyze analyzed
analyze: ## gcc -fanalyzer over all sources; a warning is a failure
	@$(MAKE) BUILD=build/analyze ANALYZE=1 analyzed
analyzed: $(LIB_OBJS) $(MAIN_OBJ)

.PHONY: lint
lint: all ## the house rules: includes, sizes, documented options, licence lines, no sleeping tests
	@scripts/lint

.PHONY: tidy
tidy: $(BUILD)/gen/migrations.c ## clang-tidy over all sources (.clang-tidy)
	@scripts/install-deps build dev
	@printf '%s\n' $(SRCS) $(wildcard cli/main.c) | xargs -r -n 4 -P "$$(nproc)" sh -c \
	    'clang-tidy --quiet "$$@" -- $(STD) $(subst ",\",$(subst ',,$(DEFINES))) -I. $(PKG_CFLAGS)' tidy

.PHONY: format
format: ## clang-format over all sources; nothing enforces it
	@scripts/install-deps dev
	@find $(SRC_DIRS) tests -name '*.[ch]' -print0 2>/dev/null | sort -zu | xargs -0r clang-format -i

.PHONY: bench
bench: all ## measure, and fill bench/RESULTS.md
	@bench/run

# ---- rules -----------------------------------------------------------------------------------------------------------------

.PHONY: FORCE
FORCE:

# Everything is built again when the flags change (CI=true, PREFIX=…, another compiler).
$(BUILD)/.flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))' > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(BUILD)/.libs: Makefile
	@mkdir -p $(@D)
	@pkg-config --print-errors --exists $(PKGS) || { echo "A library is missing; run: make deps" >&2; exit 1; }
	@touch $@

$(BUILD)/gen/migrations.c: FORCE
	@mkdir -p $(@D)
	@scripts/embed-migrations schema > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

define compile
@mkdir -p $(@D)
@echo "  CC    $@"
@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
endef

define link
@mkdir -p $(@D)
@echo "  LD    $@"
@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
endef

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c $(BUILD)/.flags | $(BUILD)/.libs
	$(compile)

$(BUILD)/%.o: %.c $(BUILD)/.flags | $(BUILD)/.libs
	$(compile)

$(LIB): $(LIB_OBJS)
	@echo "  AR    $@"
	@rm -f $@
	@ar rcs $@ $^

$(SUPPORT_LIB): $(SUPPORT_OBJS)
	@mkdir -p $(@D)
	@rm -f $@
	@ar rcs $@ $^

$(BIN): $(MAIN_OBJ) $(LIB)
	$(link) -o $@ $(MAIN_OBJ) $(LIB) $(LIBS)

$(UNIT_BINS) $(CONTRACT_BINS): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT_LIB) $(LIB)
	$(link) -o $@ $< $(SUPPORT_LIB) $(LIB) $(TEST_LIBS) $(LIBS)

$(DRIVER_BINS): $(BUILD)/%: $(BUILD)/%.o $(LIB)
	$(link) -o $@ $< $(LIB) $(LIBS)

$(FUZZ_BINS): $(BUILD)/%: $(BUILD)/%.o $(LIB)
	$(link) -fsanitize=fuzzer -o $@ $< $(LIB) $(LIBS)

.SECONDARY:

-include $(patsubst %.o,%.d,$(LIB_OBJS) $(MAIN_OBJ) $(SUPPORT_OBJS) $(UNIT_BINS:%=%.o) $(CONTRACT_BINS:%=%.o) $(FUZZ_BINS:%=%.o) $(DRIVER_BINS:%=%.o))

endif
