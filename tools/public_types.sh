#!/bin/sh
# Usage: tools/public_types.sh PYTHON PACKAGE
# Lets pyright judge whether every public name of the client is typed for its users. pyright runs on node.
set -eu

if ! command -v node >/dev/null; then
    [ -z "${CI:-}" ] || { echo "error: pyright needs node" >&2 && exit 1; }
    echo "NOT CHECKED: the public types of $2, because node is not installed"
    exit 0
fi
# Unlike a plain check, --verifytypes does not look where editable installations point to.
export PYTHONPATH=clients/python/src:proto PYRIGHT_PYTHON_IGNORE_WARNINGS=1
echo "pyright --verifytypes $2"
if ! verdict=$("$1" -m pyright --pythonpath "$1" --verifytypes "$2" --ignoreexternal); then
    echo "$verdict"
    exit 1
fi
