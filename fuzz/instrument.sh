#!/bin/sh
# Compiles the project's own crates with the counters and comparisons that libFuzzer follows: RUSTC_WORKSPACE_WRAPPER of
# `cargo xtask test --long`. Crates of others stay as they are, so that their builds are shared with the rest.
case " $* " in
    # What runs while building is linked without libFuzzer.
    *" --crate-name build_script_"*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
