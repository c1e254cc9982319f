#!/usr/bin/env bash
# Type-checks the feature metal for Apple silicon on another machine: nothing is linked or run.
# Exit 77: the target's standard library cannot be had here.
set -euo pipefail
target=aarch64-apple-darwin
if ! rustup target list --installed 2>/dev/null | grep -qx $target; then
  timeout 120 rustup target add $target >/dev/null 2>&1 || exit 77
fi
# C sources of dependencies are not compiled: a stand-in compiler makes empty files, and a check reads none of them.
fake=$(mktemp -d); trap 'rm -rf "$fake"' EXIT
printf '%s\n' '#!/bin/sh' 'while [ $# -gt 0 ]; do case $1 in -o) shift; : > "$1";; esac; shift; done' > "$fake/cc"
printf '%s\n' '#!/bin/sh' 'for a; do case $a in *.a) : > "$a";; esac; done' > "$fake/ar"
chmod +x "$fake"/*
export SDKROOT=/ CC_aarch64_apple_darwin="$fake/cc" CXX_aarch64_apple_darwin="$fake/cc" AR_aarch64_apple_darwin="$fake/ar"
CARGO_TARGET_DIR=${1:-target-metal} cargo check --locked -p nearfar --features metal --target $target
