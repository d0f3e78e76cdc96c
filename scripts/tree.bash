# SPDX-License-Identifier: Apache-2.0
# Which tree is meant, for scripts/setup and scripts/env.bash: that of the ROS distribution which REACH_GRASP_ROS names, or the default's.
_reach_grasp_default=kilted
_reach_grasp_ros=${REACH_GRASP_ROS:-$_reach_grasp_default}
# The default's tree is .venv, build and install; another's stands beside it, .venv-jazzy for instance.
_reach_grasp_suffix=-$_reach_grasp_ros
[[ $_reach_grasp_ros != "$_reach_grasp_default" ]] || _reach_grasp_suffix=
unset _reach_grasp_default
