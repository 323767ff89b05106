# SPDX-License-Identifier: Apache-2.0
# A thin front for meson and ./check; everything real is there.
JOBS ?= 2
ASAN_SETUP = -Db_sanitize=address,undefined -Db_lundef=false -Dstatic=false -Ddebug=true -Doptimization=1

help:            ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' Makefile

build/release/build.ninja:
	meson setup build/release --buildtype=release -Ddebug=true
build/asan/build.ninja:
	meson setup build/asan $(ASAN_SETUP)
build/fuzz/build.ninja:
	CC=clang meson setup build/fuzz $(ASAN_SETUP) -Dfuzz=true
build/cover/build.ninja:
	meson setup build/cover -Db_coverage=true -Dstatic=false --buildtype=debug

build: build/release/build.ninja ## the release programs, in build/release/src/main
	ninja -C build/release -j$(JOBS)
test:            ## every test, as ./check does
	./check
asan: build/asan/build.ninja ## the sanitizer tree and its unit tests
	ninja -C build/asan -j$(JOBS) && meson test -C build/asan --print-errorlogs
fuzz: build/fuzz/build.ninja ## the libFuzzer targets; each is run by hand: build/fuzz/test/fuzz/fuzz_NAME test/fuzz/corpus/NAME
	ninja -C build/fuzz -j$(JOBS)
lint:            ## floors, style, clang-tidy
	tools/check-floors && tools/check-style && tools/tidy
fmt:             ## clang-format on the C files that differ from the last commit
	git diff --name-only --diff-filter=d HEAD -- '*.c' '*.h' | xargs -r clang-format -i
screens: build   ## pictures of each page of the dashboard, in build/screens
	/usr/bin/python3 -B -m pytest -p no:cacheprovider -q test/e2e/screens.py
cover: build/cover/build.ninja ## line coverage of the unit tests, per folder (needs gcovr)
	ninja -C build/cover -j$(JOBS) && meson test -C build/cover && gcovr -r . --filter src/ build/cover

.PHONY: help build test asan fuzz lint fmt screens cover
