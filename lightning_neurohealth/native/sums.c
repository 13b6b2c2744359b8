/* Sums over the rows of one tensor, added straight to where they are kept.

   All is in double precision. What each sum is, statistics/rows.py says in torch. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS, FREEDOM, SUM, SQUARE, WITHIN, MAGNITUDE, ABOVE, AT_MOST, AT_LEAST, OUTSIDE, NEAR, NONZERO, LIVE, BAD, FIRST,
    KNOWN, SUM_OF_KNOWN, SLOPE_OF_SIGMOID, SLOPE_OF_TANH, SLOPE_OF_SILU, SLOPE_OF_GELU, SLOPE_OF_GELU_TANH,
    SIZE_OF_SQUARES, SIZE_OF_MAGNITUDES
};

typedef struct {
    int64_t what;
    double low, high, weight;
    double *out; /* a number for each neuron, or one for all */
} Sum;

typedef struct {
    int64_t samples, lines, places, neurons; /* rows are samples x lines x places */
    int64_t sample, line, place, neuron;     /* from one to the next, in elements */
    int64_t type;                            /* 0 for float, 1 for double, 2 for bfloat16 */
    int64_t count;                           /* of sums, at most MOST */
    Sum *sums;
} Plan;

#define WIDE 32  /* neurons that are looked at together */
#define BLOCK 96 /* rows of them: what is worked on stays in the first cache */
#define MOST 24
#define FLAGS 4096

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE double widened(uint16_t bfloat16) {
    uint32_t bits = (uint32_t)bfloat16 << 16;
    float single;
    memcpy(&single, &bits, sizeof single);
    return single;
}

/* Where each of the rows from `begin` on lies. */
INLINE void find(const Plan *plan, int64_t begin, int64_t rows, int64_t *at) {
    int64_t place = begin % plan->places, line = begin / plan->places % plan->lines;
    int64_t sample = begin / plan->places / plan->lines;
    for (int64_t r = 0; r < rows; r++) {
        at[r] = sample * plan->sample + line * plan->line + place * plan->place;
        if (++place == plan->places) {
            place = 0;
            if (++line == plan->lines) line = 0, sample++;
        }
    }
}

#define TAKE(TYPE, AS_DOUBLE)                                                                                          \
    {                                                                                                                  \
        const TYPE *from = (const TYPE *)x + first * plan->neuron;                                                     \
        if (plan->neuron == 1 && width == WIDE)                                                                        \
            for (int64_t r = 0; r < rows; r++)                                                                         \
                for (int t = 0; t < WIDE; t++) block[r][t] = AS_DOUBLE(from[at[r] + t]);                               \
        else                                                                                                           \
            for (int t = 0; t < width; t++)                                                                            \
                for (int64_t r = 0; r < rows; r++) block[r][t] = AS_DOUBLE(from[at[r] + t * plan->neuron]);            \
    }

INLINE void take(const Plan *plan, const void *x, double scale, int64_t first, int width, const int64_t *at,
                 int64_t rows, double (*block)[WIDE]) {
    if (plan->type == 0) TAKE(float, (double))
    else if (plan->type == 1) TAKE(double, (double))
    else TAKE(uint16_t, widened)
    if (scale != 1.0)
        for (int64_t r = 0; r < rows; r++)
            for (int t = 0; t < WIDE; t++) block[r][t] *= scale;
}

/* e^v for v <= 0, within 1e-9 of itself, in such a way that compilers make vectors of it; NaN stays NaN. */
INLINE double decay(double v) {
    const double shift = 6755399441055744.0; /* 1.5 x 2^52: what is added to it is rounded to a whole number */
    const double least = v < -700.0 ? -700.0 : v;
    double whole = least * 1.4426950408889634 + shift;
    uint64_t bits;
    memcpy(&bits, &whole, sizeof bits);
    bits = (bits + 1023) << 52;
    double power, rest = least - (whole - shift) * 0.6931471805599453;
    memcpy(&power, &bits, sizeof power);
    double sum = 1.0 + rest * (1.0 / 8);
    sum = 1.0 + rest * sum * (1.0 / 7);
    sum = 1.0 + rest * sum * (1.0 / 6);
    sum = 1.0 + rest * sum * (1.0 / 5);
    sum = 1.0 + rest * sum * (1.0 / 4);
    sum = 1.0 + rest * sum * (1.0 / 3);
    sum = 1.0 + rest * sum * (1.0 / 2);
    sum = 1.0 + rest * sum;
    return v < -700.0 ? 0.0 : power * sum;
}

/* e^-|z| / (1 + e^-|z|)^2, which is even: nothing cancels. */
INLINE double slope_of_sigmoid(double z) {
    const double e = decay(-fabs(z));
    return e / ((1.0 + e) * (1.0 + e));
}

INLINE double sigmoid(double z) {
    const double e = decay(-fabs(z)), small = e / (1.0 + e);
    return z < 0.0 ? small : 1.0 - small;
}

INLINE double slope_of_silu(double z) {
    const double s = sigmoid(z);
    return s * (1.0 + z * (1.0 - s));
}

/* Abramowitz & Stegun 7.1.26: the probability that a standard normal number is less than z, within 1e-7. */
INLINE double slope_of_gelu(double z) {
    const double e = decay(-0.5 * z * z), t = 1.0 / (1.0 + 0.3275911 * 0.7071067811865476 * fabs(z));
    const double series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    const double outside = 0.5 * series * e;
    return (z < 0.0 ? outside : 1.0 - outside) + z * 0.3989422804014327 * e;
}

INLINE double slope_of_gelu_tanh(double z) {
    const double s = sigmoid(2.0 * 0.7978845608028654 * (z + 0.044715 * z * z * z));
    return s + z * 2.0 * s * (1.0 - s) * 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * z * z);
}

#define TOTAL(TERM)                                                                                                    \
    {                                                                                                                  \
        double total[WIDE];                                                                                            \
        memcpy(total, into, sizeof total);                                                                             \
        for (int64_t r = 0; r < rows; r++)                                                                             \
            for (int t = 0; t < WIDE; t++) {                                                                           \
                double v = block[r][t];                                                                                \
                total[t] += (TERM);                                                                                    \
            }                                                                                                          \
        memcpy(into, total, sizeof total);                                                                             \
    }

/* Add what some rows bring to one sum. */
INLINE void add(const Sum *sum, double (*block)[WIDE], int64_t rows, double *into) {
    const double low = sum->low, high = sum->high;
    switch (sum->what) {
    case SUM: TOTAL(v) break;
    case SQUARE:
    case SIZE_OF_SQUARES: TOTAL(v * v) break;
    case MAGNITUDE:
    case SIZE_OF_MAGNITUDES: TOTAL(fabs(v)) break;
    case WITHIN:
        TOTAL(v * v)
        into += WIDE;
        TOTAL(v)
        break;
    case ABOVE: TOTAL(v > low ? 1.0 : 0.0) break;
    case AT_MOST: TOTAL(v <= low ? 1.0 : 0.0) break;
    case AT_LEAST: TOTAL(v >= low ? 1.0 : 0.0) break;
    case OUTSIDE: TOTAL((v <= low ? 1.0 : 0.0) + (v >= high ? 1.0 : 0.0)) break;
    case NEAR: TOTAL(fabs(v) <= low ? 1.0 : 0.0) break;
    case NONZERO: TOTAL(v != 0.0 ? 1.0 : 0.0) break;
    case BAD:
    case FIRST: TOTAL(v - v == 0.0 ? 0.0 : 1.0) break;
    case SLOPE_OF_SIGMOID: TOTAL(slope_of_sigmoid(v)) break;
    case SLOPE_OF_TANH: TOTAL(4.0 * slope_of_sigmoid(2.0 * v)) break;
    case SLOPE_OF_SILU: TOTAL(fabs(slope_of_silu(v))) break;
    case SLOPE_OF_GELU: TOTAL(fabs(slope_of_gelu(v))) break;
    case SLOPE_OF_GELU_TANH: TOTAL(fabs(slope_of_gelu_tanh(v))) break;
    case KNOWN: TOTAL(v == v ? 1.0 : 0.0) break;
    case SUM_OF_KNOWN: TOTAL(v == v ? v : 0.0) break;
    }
}

INLINE void note_live(double (*block)[WIDE], int width, int64_t rows, uint8_t *live) {
    for (int64_t r = 0; r < rows; r++) {
        int some = 0;
        for (int t = 0; t < width; t++) some |= block[r][t] != 0.0;
        live[r] |= some;
    }
}

/* Add the totals of `width` neurons to what is kept; `step` is that of the rows. */
INLINE void keep(const Sum *sum, const double *total, int64_t first, int width, int64_t rows, double step) {
    switch (sum->what) {
    case ROWS:
    case FREEDOM:
    case LIVE: break;
    case FIRST:
        for (int t = 0; t < width; t++)
            if (total[t] > 0.0 && step < sum->out[0]) sum->out[0] = step;
        break;
    case SIZE_OF_SQUARES:
    case SIZE_OF_MAGNITUDES:
        for (int t = 0; t < width; t++) sum->out[0] += total[t];
        sum->out[1] += (double)(rows * width);
        break;
    case WITHIN:
        for (int t = 0; t < width; t++) {
            double squares = total[t], sums = total[WIDE + t], rest = squares - sums * sums / (double)rows;
            sum->out[first + t] += rows == 1 ? sums - sums : rest < 0.0 ? 0.0 : rest;
        }
        break;
    default:
        for (int t = 0; t < width; t++) sum->out[first + t] += total[t] * sum->weight;
    }
}

/* Add all sums of the plan over the rows of `x` times `scale`; gives 0 if it has done so. */
FOR_EACH_PROCESSOR
int add_sums(const Plan *plan, const void *x, double scale, double step) {
    const int64_t rows = plan->samples * plan->lines * plan->places;
    double block[BLOCK][WIDE], totals[MOST][2 * WIDE];
    int64_t at[BLOCK];
    uint8_t few[FLAGS], *live = rows > FLAGS ? malloc(rows) : few;
    if (live == NULL || plan->count > MOST) return 1;
    memset(live, 0, rows);
    memset(block, 0, sizeof block);
    int any_live = 0;
    for (int64_t i = 0; i < plan->count; i++) any_live |= plan->sums[i].what == LIVE;

    for (int64_t first = 0; first < plan->neurons; first += WIDE) {
        const int width = plan->neurons - first < WIDE ? (int)(plan->neurons - first) : WIDE;
        memset(totals, 0, sizeof totals);
        for (int64_t begin = 0; begin < rows; begin += BLOCK) {
            const int64_t some = rows - begin < BLOCK ? rows - begin : BLOCK;
            find(plan, begin, some, at);
            take(plan, x, scale, first, width, at, some, block);
            for (int64_t i = 0; i < plan->count; i++) add(&plan->sums[i], block, some, totals[i]);
            if (any_live) note_live(block, width, some, live + begin);
        }
        for (int64_t i = 0; i < plan->count; i++) keep(&plan->sums[i], totals[i], first, width, rows, step);
    }

    for (int64_t i = 0; i < plan->count; i++) {
        const Sum *sum = &plan->sums[i];
        if (sum->what == ROWS) sum->out[0] += (double)rows * sum->weight;
        if (sum->what == FREEDOM) sum->out[0] += (double)(rows - 1);
        if (sum->what == LIVE)
            for (int64_t r = 0; r < rows; r++) sum->out[0] += live[r];
    }
    if (live != few) free(live);
    return 0;
}
