#!/usr/bin/env node
// Usage: check.mjs <DOCUMENTS.json
// Checks custom resources of the Prometheus operator (a JSON array on stdin) against its schemas and prints a line for each
// that does not fit. Exit code 1: there are some, or one of another kind. A field that the schema does not know passes.
// The schemas are installed from package-lock.json into .tools/crds, as files that Node.js can load from there only by path.

import { readFileSync } from "node:fs";

const root = new URL("../../../", import.meta.url);
const models = new URL(".tools/crds/node_modules/@kubernetes-models/prometheus-operator/", root);

const groups = { "monitoring.coreos.com/v1": await import(new URL("monitoring.coreos.com/v1/index.js", models)) };

function problem(document) {
  const Model = groups[document.apiVersion]?.[document.kind];
  if (!Model) return "no schema";
  try {
    new Model(document).validate();
  } catch (error) {
    return error.message;
  }
  return null;
}

for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  const found = problem(document);
  if (found) {
    console.log(`${document.kind} ${document.metadata?.name}: ${found}`);
    process.exitCode = 1;
  }
}
