# SPDX-License-Identifier: Apache-2.0
# Each target does the set-up it needs. Arguments: make demo ARGS="--seed 7 --minutes 10"
# The ROS distribution, jazzy or kilted: make test ROS_DISTRO=jazzy. That of the default is in .venv, another stands beside it.
SHELL := bash
ARGS ?=
# Only the command line chooses: where a ROS was sourced, its ROS_DISTRO is in the environment.
export REACH_GRASP_ROS := $(if $(filter command,$(origin ROS_DISTRO)),$(ROS_DISTRO))
TREES := $(patsubst constraints-%.txt,-%,$(wildcard constraints-*.txt))

.PHONY: help setup demo rehearse test test-other check-images bench lint clean
help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*##/\1 /p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup:  ## make .venv and build the workspace; nothing when nothing changed
	@scripts/setup

demo: setup  ## watch a simulated arm learn to grasp, 7 to 12 minutes on 2 cores; ARGS="--help" lists options
	@source scripts/env.bash && exec reach-grasp demo $(ARGS)

rehearse: setup  ## the whole road of a station on its twin, in real time, about an hour on 2 cores; ARGS="--help" lists options
	@source scripts/env.bash && exec reach-grasp rehearse $(ARGS)

test: setup  ## all tests, about 12 minutes on 2 cores; ARGS="-k name" picks some
	@scripts/test $(ARGS)

test-other:  ## tests of the other ROS distribution, and bags from one to the other, about 2 minutes; sets both up
	@scripts/test-other

check-images: setup  ## build docker/Dockerfile's images without an engine and train across two of them; as root
	@scripts/check-images $(ARGS)

bench: setup  ## measure against LeRobot; writes outputs/bench/bench.json
	@source scripts/env.bash && exec python -m benchmarks $(ARGS)

lint: setup  ## ruff, and checks of package.xml and licences
	@scripts/lint

clean:  ## remove everything that set-up made, and nothing else
	rm -rf log $(foreach name,.venv build install,$(name) $(addprefix $(name),$(TREES)))
