/* Included in front of every C++ file of llama.cpp; see amx.cmake.

   GCC's _tile_loadconfig tells the compiler that `ldtilecfg` reads 8 bytes. It reads 64, so GCC removes the stores
   that fill the others, and the first matrix product on a CPU with AMX ends the process with SIGSEGV. */
#if defined(__cplusplus) && defined(__x86_64__) && defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)

#include <immintrin.h>

static inline __attribute__((always_inline)) void glmserve_tile_loadconfig(const void *config) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*static_cast<const char (*)[64]>(config)));
}

#define _tile_loadconfig glmserve_tile_loadconfig

#endif
