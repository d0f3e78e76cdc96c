# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = "so101_description"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={package_name: ["urdf/*.urdf"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/urdf", [f"{package_name}/urdf/so101.urdf"]),
        (f"share/{package_name}/rviz", ["rviz/so101.rviz"]),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    maintainer="reach-grasp maintainers",
    maintainer_email="maintainers@reach-grasp.example",
    description="The SO-101 arm as a URDF of primitive shapes",
    license="Apache-2.0",
)
