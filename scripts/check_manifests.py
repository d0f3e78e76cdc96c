# SPDX-License-Identifier: Apache-2.0
"""Checks every given package.xml: format 3, valid, licensed, and not behind the version and name of its setup.py."""

from __future__ import annotations

import sys
from pathlib import Path

from catkin_pkg.package import InvalidPackage, parse_package


def problems(manifest: Path) -> list[str]:
    """What is wrong with one package.xml, one sentence each."""
    warnings: list[str] = []
    try:
        package = parse_package(str(manifest), warnings=warnings)
        package.validate(warnings)
    except InvalidPackage as error:
        return [f"{manifest}: {error}"]
    found = [f"{manifest}: {text}" for text in warnings]
    if package.package_format != 3:
        found.append(f"{manifest}: is format {package.package_format}, expected 3")
    if package.name != manifest.parent.name:
        found.append(f"{manifest}: names {package.name}, its folder is {manifest.parent.name}")
    if package.licenses != ["Apache-2.0"]:
        found.append(f"{manifest}: the license is {package.licenses}, expected Apache-2.0")
    setup = manifest.with_name("setup.py")
    if setup.is_file() and f'version="{package.version}"' not in setup.read_text():
        found.append(f"{setup}: has another version than package.xml, which says {package.version}")
    return found


def main(arguments: list[str]) -> int:
    found = [text for argument in arguments for text in problems(Path(argument))]
    print("\n".join(found) or f"{len(arguments)} manifests are valid")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
