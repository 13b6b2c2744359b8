/* Eight numbers at a time, whatever the processor. */

#include <stdint.h>

#define LANES 8
#define PARTS 4 /* vectors that are worked on together: one addition need not wait for the last */
#define WIDE (LANES * PARTS)

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))
#define EACH_PART _Pragma("GCC unroll 4") for (int p = 0; p < PARTS; p++)

typedef double Vector __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t Bits __attribute__((vector_size(LANES * sizeof(double))));
typedef Vector Row[PARTS];

INLINE Vector counted(Bits truth) { return (Vector)(truth & (Bits)((Vector){0} + 1.0)); }

/* gcc makes one instruction of a comparison that is counted, and a loop over the lanes of any other. */
INLINE Vector chosen(Bits truth, Vector yes, Vector no) {
    const Bits mask = (Bits)(0.0 - counted(truth)) >> 63;
    return (Vector)((Bits)no ^ (mask & ((Bits)yes ^ (Bits)no)));
}
