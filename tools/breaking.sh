#!/bin/sh
# Usage: tools/breaking.sh BUF [COMMIT]
# Fails if the contract breaks callers of COMMIT's contract. Without COMMIT: of the last commit whose contract is
# another one than that of the working tree, so that it says something before a commit as well as after it.
set -eu

buf=$1
commit=${2:-}

nothing() {
    echo "breaking: NOT COMPARED: $1"
    exit 0
}

git rev-parse -q --verify HEAD >/dev/null 2>&1 || nothing "there is no commit"
if [ -z "$commit" ]; then
    for candidate in $(git log --format=%H -- ':(glob)proto/**/*.proto'); do
        git diff --quiet "$candidate" -- ':(glob)proto/**/*.proto' || { commit=$candidate && break; }
    done
fi
if [ -z "$commit" ]; then
    [ "$(git rev-parse --is-shallow-repository)" = false ] || nothing "this clone is shallow; fetch more, or name a commit"
    nothing "no commit has another contract"
fi

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$commit" proto | tar -x -C "$before"
cp buf.yaml "$before"
[ -n "$(find "$before/proto" -name '*.proto')" ] || nothing "$commit has no contract"
"$buf" breaking --against "$before"
echo "breaking: compatible with $(git log -1 --format='%h (%s)' "$commit")"
