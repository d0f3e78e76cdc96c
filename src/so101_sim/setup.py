# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = "so101_sim"

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
    description="The simulated SO-101 arm and a scripted person",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "sim_node = so101_sim.sim_node:main",
            "operator_node = so101_sim.operator_node:main",
            "twin_node = so101_sim.twin_node:main",
            "hand_node = so101_sim.hand_node:main",
        ]
    },
)
