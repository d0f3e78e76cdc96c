# SPDX-License-Identifier: Apache-2.0
# The environment of the workspace that scripts/setup made. Source it from bash: source scripts/env.bash
_reach_grasp_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$_reach_grasp_root/scripts/tree.bash"
_reach_grasp_venv=$_reach_grasp_root/.venv$_reach_grasp_suffix
# An installed ROS 2 must not mix with the one in the environment. The last one is the mark of its wheels that LD_LIBRARY_PATH is set,
# which a Python of the environment leaves to what it starts.
unset PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION \
  _ROS_WHEELS_BOOTSTRAP_COMPLETE
case "$PATH:" in
  "$_reach_grasp_venv/bin:"*) ;;
  *) export PATH="$_reach_grasp_venv/bin:$PATH" ;;
esac
export AMENT_PREFIX_PATH="$_reach_grasp_venv"
if [[ -f $_reach_grasp_root/install$_reach_grasp_suffix/local_setup.bash ]]; then
  # What colcon generates reads variables that may be unset.
  case $- in *u*) _reach_grasp_strict=1; set +u ;; *) _reach_grasp_strict= ;; esac
  source "$_reach_grasp_root/install$_reach_grasp_suffix/local_setup.bash"
  [[ -z $_reach_grasp_strict ]] || set -u
  unset _reach_grasp_strict
fi
[[ ! -f $_reach_grasp_venv/.gl ]] || export MUJOCO_GL="${MUJOCO_GL:-$(<"$_reach_grasp_venv/.gl")}"
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
unset _reach_grasp_root _reach_grasp_venv _reach_grasp_ros _reach_grasp_suffix
