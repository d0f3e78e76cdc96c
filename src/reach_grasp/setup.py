# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from setuptools import find_packages, setup

package_name = "reach_grasp"


def files(folder: str, *endings: str) -> list[str]:
    """Files of a folder, which is a link to the one at the top of the repository."""
    return [str(file) for file in sorted(Path(folder).iterdir()) if file.name.endswith(endings)]


setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={package_name: ["report/*.j2"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/launch", files("launch", ".launch.py")),
        (f"share/{package_name}/config", files("config", ".yaml", ".json")),
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
            "reach-grasp = reach_grasp.command:end",
            "frames_node = reach_grasp.frames_node:main",
            "overlay_node = reach_grasp.overlay_node:main",
        ]
    },
)
