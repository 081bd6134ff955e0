# Read by the build of llama-cpp-python through CMAKE_PROJECT_llama_cpp_INCLUDE. The package forces the cache
# entry LLAMA_BUILD_COMMON on; a normal variable hides it, and more than half of the compile time goes away.
set(LLAMA_BUILD_COMMON OFF)

include("${CMAKE_CURRENT_LIST_DIR}/amx.cmake")
