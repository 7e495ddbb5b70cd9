"""Removes from the image what it never asks botocore for: models of other services (26 MB of 28), most of Connect's.

The service has boto3 make up one request, of MonitorContact, and reads everything else of Connect by itself. With the
whole model of Connect's 405 operations that costs 9 MB of memory and 50 ms of CPU at each start (measured).
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import botocore

# Connect itself; what hands out credentials: roles, IAM Identity Center, `aws login`.
KEPT: Final = frozenset({"connect", "sts", "sso", "sso-oidc", "signin"})
OPERATION: Final = "MonitorContact"


def main() -> None:
    """Prune the data of the botocore that this interpreter has."""
    prune(Path(botocore.__file__).parent / "data")


def prune(data: Path) -> None:
    """Remove every folder of botocore's data that is not kept; files there are for all services."""
    for entry in data.iterdir():
        if entry.is_dir() and entry.name not in KEPT:
            shutil.rmtree(entry)
    for path in data.glob("connect/*/service-2.json.gz"):
        path.write_bytes(gzip.compress(json.dumps(cut(json.loads(gzip.decompress(path.read_bytes())))).encode()))


def cut(model: dict[str, Any]) -> dict[str, Any]:
    """Return a service's model with one operation, and the shapes that it needs."""
    operation = model["operations"][OPERATION]
    needed: dict[str, Any] = {}
    names = list(_shapes(operation))
    while names:
        name = names.pop()
        if name not in needed:
            needed[name] = model["shapes"][name]
            names.extend(_shapes(needed[name]))
    return {**model, "operations": {OPERATION: operation}, "shapes": needed}


def _shapes(node: Any) -> Iterator[str]:
    """Yield the names of the shapes that a part of a model refers to."""
    if isinstance(node, list):
        for each in node:
            yield from _shapes(each)
    elif isinstance(node, dict):
        if isinstance(node.get("shape"), str):
            yield node["shape"]
        for each in node.values():
            yield from _shapes(each)


if __name__ == "__main__":
    main()
