#!/bin/sh
# Usage: tools/environment.sh FOLDER LOCK...
# Makes the virtual environment FOLDER where there is none and installs the locks into it, every file checked by hash.
# PYTHON names another interpreter; UV is the path of uv, empty for none: pip, which comes with Python, does the same.
set -eu

folder=$1
shift

# A name on PATH may be a stub that runs nothing (pyenv), and Debian's python3 has no ensurepip: ask each candidate.
usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        "$candidate" -c "$usable" >/dev/null 2>&1 && command -v "$candidate" && return
    done
    {
        echo "error: no usable Python. This project needs Python 3.11 or newer with its venv module."
        for candidate in ${PYTHON:-python3 python}; do
            echo "  $candidate: $("$candidate" -c 'import sys; print(sys.version.split()[0]); import venv, ensurepip' 2>&1 |
                sed -n '1p;$p' | uniq | paste -sd ' ' -)"
        done
        echo "Debian, Ubuntu: apt-get install python3-venv. Another interpreter: make PYTHON=/path/to/python3.12 ..."
    } >&2
    exit 1
}

if ! "$folder/bin/python" -c '' 2>/dev/null; then
    python=$(find_python)
    echo "Making $folder with $python"
    # Of an environment whose Python is gone, nothing is worth keeping.
    rm -rf "$folder"
    if [ -n "${UV:-}" ]; then
        "$UV" venv -q --python "$python" "$folder"
    else
        "$python" -m venv "$folder"
    fi
fi

requirements=
for lock in "$@"; do
    requirements="$requirements -r $lock"
done
echo "Installing $(cat "$@" | grep -c '==') pinned packages into $folder with ${UV:-pip}"
# shellcheck disable=SC2086 # the list of options is meant to be split
if [ -n "${UV:-}" ]; then
    "$UV" pip install -q --python "$folder/bin/python" --require-hashes $requirements
else
    "$folder/bin/python" -m pip --version >/dev/null 2>&1 || "$folder/bin/python" -m ensurepip >/dev/null
    "$folder/bin/python" -m pip install -q --disable-pip-version-check --require-hashes $requirements
fi
