# What GCC makes of llama.cpp dies on CPUs with AMX without this header. Read by CMake through
# CMAKE_PROJECT_<name>_INCLUDE. One argument without a blank of its own, because the path may have blanks.
add_compile_options("$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-include${CMAKE_CURRENT_LIST_DIR}/tile_config.h>")
