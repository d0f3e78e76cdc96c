# SPDX-License-Identifier: Apache-2.0
"""What is asked of Fast DDS, and that whoever has asked already is left alone."""

from __future__ import annotations

from xml.etree import ElementTree

from hilserl_ros.transport import PROFILES, make_room, small_datagrams


def test_images_fit_into_shared_memory_unless_somebody_has_chosen():
    names = {"kilted": "FASTDDS_DEFAULT_PROFILES_FILE", "jazzy": "FASTRTPS_DEFAULT_PROFILES_FILE"}
    for distribution, name in names.items():
        environment = {"ROS_DISTRO": distribution}
        make_room(environment)
        assert environment == {"ROS_DISTRO": distribution, name: str(PROFILES)}
    (size,) = ElementTree.parse(PROFILES).iter("{http://www.eprosima.com}segment_size")
    assert int(size.text) >= 5 * 1280 * 720 * 3, "the depth of an image topic"
    for name in (*names.values(), "FASTDDS_BUILTIN_TRANSPORTS"):
        chosen = {name: "mine"}
        make_room(chosen)
        assert chosen == {name: "mine"} and small_datagrams(chosen) == {}
