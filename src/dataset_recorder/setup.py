# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = "dataset_recorder"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=True,
    maintainer="reach-grasp maintainers",
    maintainer_email="maintainers@reach-grasp.example",
    description="Episodes to rosbag2 (MCAP), bags to LeRobot datasets, their labels, and replay.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "player_node = dataset_recorder.player_node:main",
            "recorder_node = dataset_recorder.recorder_node:main",
        ]
    },
)
