"""Removes the models of the AWS services that the image never calls: 26 MB of botocore's 28 (measured)."""

import shutil
from pathlib import Path

import botocore

# Connect itself; what hands out credentials: roles, IAM Identity Center, `aws login`.
KEPT = {"connect", "sts", "sso", "sso-oidc", "signin"}


def main() -> None:
    """Remove every folder of botocore's data that is not kept; files there are for all services."""
    for entry in (Path(botocore.__file__).parent / "data").iterdir():
        if entry.is_dir() and entry.name not in KEPT:
            shutil.rmtree(entry)


if __name__ == "__main__":
    main()
