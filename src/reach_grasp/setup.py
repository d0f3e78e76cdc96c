# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

from setuptools import find_packages, setup

package_name = "reach_grasp"
here = Path(__file__).resolve().parent


def top_level(folder: str, pattern: str) -> list[str]:
    """Files of a folder at the top of the repository, relative to where the build runs."""
    return [os.path.relpath(file, Path.cwd()) for file in sorted((here.parents[1] / folder).glob(pattern))]


setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={package_name: ["report/*.j2"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/launch", top_level("launch", "*.launch.py")),
        (f"share/{package_name}/config", [*top_level("config", "*.yaml"), *top_level("config", "*.json")]),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    maintainer="reach-grasp maintainers",
    maintainer_email="maintainers@reach-grasp.example",
    description="Starts reach-grasp",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "reach-grasp = reach_grasp.command:main",
            "overlay_node = reach_grasp.overlay_node:main",
        ]
    },
)
