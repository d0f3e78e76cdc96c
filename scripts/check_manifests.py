# SPDX-License-Identifier: Apache-2.0
"""Checks every given package.xml: format 3, valid, licensed, not behind its setup.py, and true about what the package needs.

What it needs are imports, nodes that it starts and what its CMakeLists.txt finds (scripts/dependencies.py). Each must stand
in package.xml, and nothing else; every key must be a package of this workspace or of ROS, or a key of rosdep.
"""

from __future__ import annotations

import sys
from pathlib import Path

from catkin_pkg.package import InvalidPackage, Package, parse_package
from dependencies import MODULES, REACH_GRASP, ROS, needs, own_keys

TAGS = {"build": "depend", "run": "exec_depend", "test": "test_depend"}
HOW_TO_ADD = "add it to scripts/dependencies.py, and to rosdep/reach-grasp.yaml if rosdistro has no key for it"


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
    return found + wrong_dependencies(manifest, package)


def wrong_dependencies(manifest: Path, package: Package) -> list[str]:
    """What package.xml lacks, what it names in vain, and what nobody could install."""
    workspace = frozenset(beside.parent.name for beside in manifest.parent.parent.glob("*/package.xml"))
    needed, unknown = needs(manifest.parent, workspace)
    found = [f"{text}: {HOW_TO_ADD}" for text in unknown]
    declared = {
        "build": {depend.name for depend in (*package.buildtool_depends, *package.build_depends)},
        "run": {depend.name for depend in package.exec_depends},
    }
    declared["test"] = declared["run"] | {depend.name for depend in package.test_depends}
    for kind, tag in TAGS.items():
        lacking = {key: file for key, file in needed[kind].items() if key not in declared[kind]}
        found += [f"{manifest}: lacks <{tag}>{key}</{tag}>, which {file} needs" for key, file in sorted(lacking.items())]
    known = ROS | workspace | set(MODULES.values())
    for key in sorted(set().union(*declared.values()) - set().union(*needed.values())):
        why = "which nothing here needs" if key in known else f"a key that is not known: {HOW_TO_ADD}"
        found.append(f"{manifest}: names {key}, {why}")
    return found


def wrong_keys() -> list[str]:
    """Keys of ours that stand in one place only."""
    defined, named = own_keys(), set(REACH_GRASP.values())
    found = [f"lacks {key}, which scripts/dependencies.py names" for key in sorted(named - defined)]
    found += [f"defines {key}, which scripts/dependencies.py does not name" for key in sorted(defined - named)]
    return [f"rosdep/reach-grasp.yaml: {text}" for text in found]


def main(arguments: list[str]) -> int:
    found = wrong_keys() + [text for argument in arguments for text in problems(Path(argument))]
    print("\n".join(found) or f"{len(arguments)} manifests are valid")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
