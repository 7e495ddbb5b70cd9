#!/bin/sh
# Writes prometheusrule.yaml: the rules of rules.yaml, comments included, for the Prometheus operator.
set -eu
cd "$(dirname "$0")"
{
    cat <<'HEAD'
# Written by generate.sh from rules.yaml. Do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: monitor-contact
spec:
HEAD
    sed -n '/^groups:/,$ s/^./  &/p; /^groups:/,$ { /^$/p }' rules.yaml
} >prometheusrule.yaml
