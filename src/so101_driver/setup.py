# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = "so101_driver"

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
    zip_safe=False,
    maintainer="reach-grasp maintainers",
    maintainer_email="maintainers@reach-grasp.example",
    description="The real SO-101 arm and its cameras",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "follower_node = so101_driver.follower_node:main",
            "command_relay_node = so101_driver.command_relay_node:main",
            "leader_node = so101_driver.leader_node:main",
            "camera_node = so101_driver.camera_node:main",
            "gamepad_node = so101_driver.gamepad_node:main",
        ]
    },
)
