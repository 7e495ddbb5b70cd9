#!/bin/sh
# Usage: tools/render.sh [FOLDER]
# Renders each overlay of deploy/kubernetes into FOLDER/<overlay>.yaml; without FOLDER into deploy/kubernetes/rendered, which
# is committed. Needs kustomize (make render installs it into .tools/bin).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/deploy/kubernetes/rendered}
PATH="$root/.tools/bin:$PATH"
command -v kustomize >/dev/null || { echo "error: kustomize is not installed: make render" >&2; exit 1; }

for overlay in "$root"/deploy/kubernetes/overlays/*/; do
    name=$(basename "$overlay")
    {
        echo "# Written by make render from overlays/$name. Do not edit."
        kustomize build "$overlay"
    } >"$folder/$name.yaml"
done
