# SPDX-License-Identifier: Apache-2.0
# The CMake exports in the ROS 2 wheels name include folders of the machine that built them. At the end of configuring,
# imported targets lose the include folders that do not exist here. Given to CMake as CMAKE_PROJECT_INCLUDE.
include_guard(GLOBAL)

function(drop_missing_includes)
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      if(NOT folder MATCHES "^/" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL drop_missing_includes)
