/* Sums over the rows of one tensor, added straight to where they are kept.

   All is in double precision. What each sum is, statistics/rows.py says in torch. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

enum {
    ROWS, FREEDOM, SUM, SQUARE, WITHIN, MAGNITUDE, ABOVE, AT_MOST, AT_LEAST, OUTSIDE, NEAR, NONZERO, LIVE, BAD, FIRST,
    KNOWN, SUM_OF_KNOWN, LOWEST, HIGHEST, WITHIN_MAGNITUDES, SAMPLES, SPATIAL, HISTOGRAM, SLOPE_OF_SIGMOID, SLOPE_OF_TANH, SLOPE_OF_SILU, SLOPE_OF_GELU, SLOPE_OF_GELU_TANH,
    SIZE_OF_SQUARES, SIZE_OF_MAGNITUDES
};

typedef struct {
    int64_t what;
    double low, high, weight;
    int64_t edges;       /* how many */
    const double *edge;  /* of bins, ascending */
    double *out;         /* a number for each neuron, or one for all; of a histogram, one for each neuron and bin */
} Sum;

typedef struct {
    int64_t samples, lines, places, neurons; /* rows are samples x lines x places */
    int64_t sample, line, place, neuron;     /* from one to the next, in elements */
    int64_t sample_2, line_2, place_2, neuron_2; /* likewise of a second tensor, if there is one */
    int64_t minus;                           /* 1 if the second one are rows, as `copy` got them, to be taken away */
    int64_t type;                            /* 0 for float, 1 for double, 2 for bfloat16 */
    int64_t count;                           /* of sums, at most MOST */
    Sum *sums;
} Plan;

#define BLOCK 96 /* rows of WIDE neurons: what is worked on stays in the first cache */
#define MOST 48
#define FLAGS 4096
#define BINS 128 /* at most */

INLINE double widened(uint16_t bfloat16) {
    uint32_t bits = (uint32_t)bfloat16 << 16;
    float single;
    memcpy(&single, &bits, sizeof single);
    return single;
}

/* Where each of the rows from `begin` on lies; with `chosen`, only those samples count. */
INLINE void find(const Plan *plan, const int64_t *chosen, int64_t begin, int64_t rows, int64_t *at) {
    int64_t place = begin % plan->places, line = begin / plan->places % plan->lines;
    int64_t sample = begin / plan->places / plan->lines;
    for (int64_t r = 0; r < rows; r++) {
        at[r] = (chosen ? chosen[sample] : sample) * plan->sample + line * plan->line + place * plan->place;
        if (++place == plan->places) {
            place = 0;
            if (++line == plan->lines) line = 0, sample++;
        }
    }
}

#define AHEAD(FROM)                                                                                                    \
    for (size_t byte = 0; byte < WIDE * sizeof *(FROM); byte += 64)                                                    \
        __builtin_prefetch((const char *)(FROM) + byte, 0, 3);

#define TAKE(TYPE, AS_DOUBLE)                                                                                          \
    {                                                                                                                  \
        const TYPE *from = (const TYPE *)x + first * plan->neuron;                                                     \
        if (plan->neuron == 1 && width == WIDE)                                                                        \
            for (int64_t r = 0; r < rows; r++) {                                                                       \
                if (more) AHEAD(from + at[r] + WIDE) /* rows are far apart, and so may be their neighbours */          \
                for (int t = 0; t < WIDE; t++) to[r * WIDE + t] = AS_DOUBLE(from[at[r] + t]);                          \
            }                                                                                                          \
        else                                                                                                           \
            for (int t = 0; t < width; t++)                                                                            \
                for (int64_t r = 0; r < rows; r++) to[r * WIDE + t] = AS_DOUBLE(from[at[r] + t * plan->neuron]);       \
    }

INLINE void take(const Plan *plan, const void *x, double scale, int64_t first, int width, const int64_t *at,
                 int64_t rows, Row *block) {
    double *to = (double *)block;
    const int more = first + 2 * WIDE <= plan->neurons;
    if (plan->type == 0) TAKE(float, (double))
    else if (plan->type == 1) TAKE(double, (double))
    else TAKE(uint16_t, widened)
    if (scale != 1.0)
        for (int64_t i = 0; i < rows * WIDE; i++) to[i] *= scale;
}

/* Each row is the sum over the places of one line of what two tensors give, multiplied. */
#define MULTIPLY(TYPE, AS_DOUBLE)                                                                                      \
    for (int64_t r = 0; r < rows; r++) {                                                                               \
        const int64_t sample = (begin + r) / plan->lines, line = (begin + r) % plan->lines;                            \
        const TYPE *a = (const TYPE *)x + sample * plan->sample + line * plan->line + first * plan->neuron;            \
        const TYPE *b = (const TYPE *)y + sample * plan->sample_2 + line * plan->line_2 + first * plan->neuron_2;      \
        double *sums = (double *)block[r];                                                                             \
        for (int t = 0; t < WIDE; t++) sums[t] = 0.0;                                                                  \
        if (plan->neuron == 1 && plan->neuron_2 == 1 && width == WIDE)                                                 \
            for (int64_t i = 0; i < plan->places; i++, a += plan->place, b += plan->place_2)                           \
                for (int t = 0; t < WIDE; t++) sums[t] += AS_DOUBLE(a[t]) * AS_DOUBLE(b[t]);                           \
        else                                                                                                           \
            for (int t = 0; t < width; t++, a += plan->neuron, b += plan->neuron_2) {                                  \
                double part[LANES] = {0};                                                                              \
                int64_t i = 0;                                                                                         \
                if (plan->place == 1 && plan->place_2 == 1)                                                            \
                    for (; i + LANES <= plan->places; i += LANES)                                                      \
                        for (int j = 0; j < LANES; j++) part[j] += AS_DOUBLE(a[i + j]) * AS_DOUBLE(b[i + j]);          \
                for (; i < plan->places; i++)                                                                          \
                    part[0] += AS_DOUBLE(a[i * plan->place]) * AS_DOUBLE(b[i * plan->place_2]);                        \
                for (int j = 0; j < LANES; j++) sums[t] += part[j];                                                    \
            }                                                                                                          \
    }

INLINE void multiply(const Plan *plan, const void *x, const void *y, double scale, int64_t first, int width,
                     int64_t begin, int64_t rows, Row *block) {
    if (plan->type == 0) MULTIPLY(float, (double))
    else if (plan->type == 1) MULTIPLY(double, (double))
    else MULTIPLY(uint16_t, widened)
    if (scale != 1.0)
        for (int64_t r = 0; r < rows; r++)
            for (int p = 0; p < PARTS; p++) block[r][p] *= scale;
}

#define COPY(TYPE)                                                                                                     \
    {                                                                                                                  \
        TYPE *to = (TYPE *)copy + begin * plan->neurons + first;                                                       \
        for (int64_t r = 0; r < rows; r++, to += plan->neurons) {                                                      \
            const double *from = (const double *)block[r];                                                             \
            if (width == WIDE)                                                                                         \
                for (int t = 0; t < WIDE; t++) to[t] = (TYPE)from[t];                                                  \
            else                                                                                                       \
                for (int t = 0; t < width; t++) to[t] = (TYPE)from[t];                                                 \
        }                                                                                                              \
    }

/* Rows one behind another, in double precision if they came so. */
INLINE void copy_rows(const Plan *plan, Row *block, int64_t first, int width, int64_t begin, int64_t rows, void *copy) {
    if (plan->type == 1) COPY(double)
    else COPY(float)
}

#define SUBTRACT(TYPE)                                                                                                 \
    for (int64_t r = 0; r < rows; r++) {                                                                               \
        const TYPE *from = (const TYPE *)before + (begin + r) * plan->neurons + first;                                 \
        double *to = (double *)block[r];                                                                               \
        for (int t = 0; t < width; t++) to[t] -= from[t];                                                              \
    }

/* Take away from rows what copy_rows has made of others. */
INLINE void subtract_rows(const Plan *plan, Row *block, int64_t first, int width, int64_t begin, int64_t rows,
                          const void *before) {
    if (plan->type == 1) SUBTRACT(double)
    else SUBTRACT(float)
}

INLINE Vector absolute(Vector v) { return (Vector)((Bits)v & INT64_MAX); }

/* e^v for v <= 0, within 1e-15 of itself; NaN stays NaN. */
INLINE Vector decay(Vector v) {
    const double shift = 6755399441055744.0; /* 1.5 x 2^52: what is added to it is rounded to a whole number */
    const Vector least = chosen(v < -700.0, (Vector){0} - 700.0, v);
    const Vector shifted = least * 1.4426950408889634 + shift, whole = shifted - shift;
    const Vector power = (Vector)(((Bits)shifted + 1023) << 52);
    const Vector rest = least - whole * 0.693147180369123816490 - whole * 1.90821492927058770002e-10; /* ln 2 in two */
    Vector sum = 1.0 + rest * (1.0 / 12);
    _Pragma("GCC unroll 12") for (int i = 11; i > 0; i--) sum = 1.0 + rest * sum * (1.0 / i);
    return chosen(v < -700.0, (Vector){0}, power * sum);
}

/* e^-|z| / (1 + e^-|z|)^2, which is even: nothing cancels. */
INLINE Vector slope_of_sigmoid(Vector z) {
    const Vector e = decay(-absolute(z));
    return e / ((1.0 + e) * (1.0 + e));
}

INLINE Vector sigmoid(Vector z) {
    const Vector e = decay(-absolute(z)), small = e / (1.0 + e);
    return chosen(z < 0.0, small, 1.0 - small);
}

INLINE Vector slope_of_silu(Vector z) {
    const Vector s = sigmoid(z);
    return s * (1.0 + z * (1.0 - s));
}

/* The probability that a standard normal number is less than z, by Hart (1968) as in West (2005), and z times its
   density. */
INLINE Vector slope_of_gelu(Vector z) {
    const Vector x = absolute(z), e = decay(-0.5 * z * z);
    Vector above = 3.52624965998911e-02 * x + 0.700383064443688;
    above = above * x + 6.37396220353165;
    above = above * x + 33.912866078383;
    above = above * x + 112.079291497871;
    above = above * x + 221.213596169931;
    above = above * x + 220.206867912376;
    Vector below = 8.83883476483184e-02 * x + 1.75566716318264;
    below = below * x + 16.064177579207;
    below = below * x + 86.7807322029461;
    below = below * x + 296.564248779674;
    below = below * x + 637.333633378831;
    below = below * x + 793.826512519948;
    below = below * x + 440.413735824752;
    const Vector outside = chosen(x < 30.0, e * above / below, e * 0.0);
    return chosen(z < 0.0, outside, 1.0 - outside) + z * 0.3989422804014327 * e;
}

INLINE Vector slope_of_gelu_tanh(Vector z) {
    const Vector s = sigmoid(2.0 * 0.7978845608028654 * (z + 0.044715 * z * z * z));
    return s + z * 2.0 * s * (1.0 - s) * 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * z * z);
}

#define TOTAL(TERM)                                                                                                    \
    {                                                                                                                  \
        Vector total[PARTS];                                                                                           \
        EACH_PART total[p] = into[p];                                                                                  \
        for (int64_t r = 0; r < rows; r++)                                                                             \
            EACH_PART {                                                                                                \
                const Vector v = block[r][p];                                                                          \
                total[p] += (TERM);                                                                                    \
            }                                                                                                          \
        EACH_PART into[p] = total[p];                                                                                  \
    }

/* The same of terms that take much longer than the rows to come. */
#define TOTAL_OF_SLOPES(TERM)                                                                                          \
    for (int p = 0; p < PARTS; p++)                                                                                    \
        for (int64_t r = 0; r < rows; r++) {                                                                           \
            const Vector v = block[r][p];                                                                              \
            into[p] += (TERM);                                                                                         \
        }

/* NaN is less, and greater, than all. */
#define EXTREME(IS_BEYOND)                                                                                             \
    {                                                                                                                  \
        Vector most_of[PARTS];                                                                                         \
        EACH_PART most_of[p] = into[p];                                                                                \
        for (int64_t r = 0; r < rows; r++)                                                                             \
            EACH_PART {                                                                                                \
                const Vector v = block[r][p], most = most_of[p];                                                       \
                most_of[p] = chosen(v != v, v, chosen(IS_BEYOND, v, most));                                            \
            }                                                                                                          \
        EACH_PART into[p] = most_of[p];                                                                                \
    }

INLINE void add_spatial(Row *block, int64_t begin, int64_t rows, int64_t of_sample, Vector *into) {
    Vector *running = into + PARTS;
    for (int64_t r = 0; r < rows; r++) {
        for (int p = 0; p < PARTS; p++) running[p] += block[r][p];
        if ((begin + r + 1) % of_sample == 0)
            for (int p = 0; p < PARTS; p++) into[p] += absolute(running[p]), running[p] = (Vector){0};
    }
}

/* 0 for false, 1 for true. */
INLINE Bits ones(Bits truth) { return truth & 1; }

/* v, rounded down, where 0 <= v < 2^51. */
INLINE Bits floor_of(Vector v) {
    const double shift = 4503599627370496.0; /* 2^52: what is added to it has no fraction */
    const Vector whole = v + shift;
    const Bits nearest = (Bits)whole & 0xfffffffffffff;
    return nearest - ones(whole - shift > v);
}

/* How many of some even edges are less than v, give or take one; 0 for NaN. */
INLINE Bits among_even(Vector v, double low, double parts, int64_t edges) {
    const Vector place = (v - low) * parts + 1.0, most = (Vector){0} + (double)edges;
    return floor_of(chosen(place < most, chosen(place > 0.0, place, (Vector){0}), chosen(v == v, most, (Vector){0})));
}

/* How many edges of half octaves, 2^(k/2) for k from -16 to 16 on both sides of 0, are less than v. */
INLINE Bits among_half_octaves(Vector v) {
    const Bits below = v < 0.0, bits = (Bits)absolute(v);
    const Bits reached = bits - (1 & ~below); /* of what is above 0, an edge that it lies on does not count */
    Bits count = 2 * ((reached >> 52) - 1023) + 17 + ones((reached & 0xfffffffffffff) > 0x6a09e667f3bcc);
    count &= ~(count < 0);
    const Bits all = count > 33;
    count = (count & ~all) | (33 & all);
    return 33 + ((count ^ below) - below);
}

/* Even edges from `low` on are `high` apart; of others, `low` is NaN and `high` is how many of the 66 edges of half
   octaves are left out at the lower end. An edge belongs to the bin under it; NaN is in no bin. */
INLINE void add_to_bins(const Sum *sum, Row *block, int64_t rows, int64_t first, int width) {
    const int64_t edges = sum->edges, bins = edges + 1, left_out = sum->low == sum->low ? 0 : (int64_t)sum->high;
    const double low = sum->low, parts = 1.0 / sum->high;
    const int even = low == low;
    uint32_t counts[WIDE * (BINS + 1)]; /* the last of each neuron is of NaN */
    double edge[BINS + 2];              /* those of each bin: it is above one and not above the next */
    memset(counts, 0, (size_t)(WIDE * (bins + 1)) * sizeof counts[0]);
    edge[0] = edge[bins + 1] = NAN, edge[bins] = INFINITY; /* neither less nor greater */
    memcpy(edge + 1, sum->edge, (size_t)edges * sizeof edge[0]);
    for (int64_t r = 0; r < rows; r++)
        for (int p = 0; p * LANES < width; p++) {
            const Vector v = block[r][p];
            Bits found = even ? among_even(v, low, parts, edges) : among_half_octaves(v) - left_out;
            const Bits beyond = found > edges, nowhere = v != v;
            found &= ~(found < 0);
            found = (found & ~beyond) | (edges & beyond);
            found = (found & ~nowhere) | (bins & nowhere);
            if (even) { /* that was a guess */
                const double *one = (const double *)&block[r][p];
                for (int t = 0; t < LANES; t++) found[t] += (edge[found[t] + 1] < one[t]) - (edge[found[t]] >= one[t]);
            }
            uint32_t *of_part = counts + p * LANES * (bins + 1);
            for (int t = 0; t < LANES; t++) of_part[t * (bins + 1) + found[t]]++;
        }
    for (int t = 0; t < width; t++) {
        double *out = sum->out + (first + t) * bins;
        for (int64_t bin = 0; bin < bins; bin++) out[bin] += counts[t * (bins + 1) + bin];
    }
}

/* Add what some rows bring to one sum. */
INLINE void add(const Sum *sum, Row *block, int64_t rows, Vector *into) {
    const double low = sum->low, high = sum->high;
    switch (sum->what) {
    case LOWEST: EXTREME(v < most) break;
    case HIGHEST: EXTREME(v > most) break;
    case WITHIN_MAGNITUDES:
        TOTAL(v * v)
        into += PARTS;
        TOTAL(absolute(v))
        break;
    case SUM: TOTAL(v) break;
    case SQUARE:
    case SIZE_OF_SQUARES: TOTAL(v * v) break;
    case MAGNITUDE:
    case SIZE_OF_MAGNITUDES: TOTAL(absolute(v)) break;
    case WITHIN:
        TOTAL(v * v)
        into += PARTS;
        TOTAL(v)
        break;
    case ABOVE: TOTAL(counted(v > low)) break;
    case AT_MOST: TOTAL(counted(v <= low)) break;
    case AT_LEAST: TOTAL(counted(v >= low)) break;
    case OUTSIDE: TOTAL(counted(v <= low) + counted(v >= high)) break;
    case NEAR: TOTAL(counted(absolute(v) <= low)) break;
    case NONZERO: TOTAL(counted(v != 0.0)) break;
    case BAD:
    case FIRST: TOTAL(counted(v - v != 0.0)) break;
    case SLOPE_OF_SIGMOID: TOTAL_OF_SLOPES(slope_of_sigmoid(v)) break;
    case SLOPE_OF_TANH: TOTAL_OF_SLOPES(4.0 * slope_of_sigmoid(2.0 * v)) break;
    case SLOPE_OF_SILU: TOTAL_OF_SLOPES(absolute(slope_of_silu(v))) break;
    case SLOPE_OF_GELU: TOTAL_OF_SLOPES(absolute(slope_of_gelu(v))) break;
    case SLOPE_OF_GELU_TANH: TOTAL_OF_SLOPES(absolute(slope_of_gelu_tanh(v))) break;
    case KNOWN: TOTAL(counted(v == v)) break;
    case SUM_OF_KNOWN: TOTAL(chosen(v == v, v, (Vector){0})) break;
    }
}

INLINE void note_live(Row *block, int width, int64_t rows, uint8_t *live) {
    for (int64_t r = 0; r < rows; r++) {
        double some = 0.0;
        if (width == WIDE) {
            Vector count = {0};
            EACH_PART count += counted(block[r][p] != 0.0);
            for (int t = 0; t < LANES; t++) some += count[t];
        } else
            for (int t = 0; t < width; t++) some += ((const double *)block[r])[t] != 0.0;
        live[r] |= some > 0.0;
    }
}

/* The plain sum over rows that a sum is made of. */
INLINE int64_t plain(int64_t what) {
    return what == SIZE_OF_SQUARES ? SQUARE : what == SIZE_OF_MAGNITUDES ? MAGNITUDE : what == FIRST ? BAD : what;
}

/* The first among some sums whose rows add up to the same; `count` if there is none. */
INLINE int64_t first_like(const Plan *plan, int64_t count, int64_t what, const double *low, const double *high) {
    int64_t i = 0;
    while (i < count && (plain(plan->sums[i].what) != what || memcmp(&plan->sums[i].low, low, sizeof *low) ||
                         memcmp(&plan->sums[i].high, high, sizeof *high)))
        i++;
    return i;
}

/* Find out whose totals each sum is made of: most often its own, and of WITHIN the squares in `own`, the sums in
   `others`, which is -1 where it has to find both itself. */
INLINE void share_totals(const Plan *plan, int64_t *own, int64_t *others) {
    for (int64_t i = 0; i < plan->count; i++) {
        const Sum *sum = &plan->sums[i];
        own[i] = sum->what == HISTOGRAM ? i : first_like(plan, i, plain(sum->what), &sum->low, &sum->high);
        others[i] = -1;
        if (sum->what == WITHIN || sum->what == WITHIN_MAGNITUDES) {
            const int64_t squares = first_like(plan, plan->count, SQUARE, &sum->low, &sum->high);
            const int64_t of = sum->what == WITHIN ? SUM : MAGNITUDE;
            const int64_t sums = first_like(plan, plan->count, of, &sum->low, &sum->high);
            if (squares < plan->count && sums < plan->count) own[i] = squares, others[i] = sums;
        }
    }
}

/* Add the totals of `width` neurons to what is kept; `others` are the sums beside squares, `step` is that of the rows. */
INLINE void keep(const Sum *sum, const double *total, const double *others, int64_t first, int width, int64_t rows,
                 double step) {
    switch (sum->what) {
    case ROWS:
    case FREEDOM:
    case LIVE:
    case SAMPLES:
    case HISTOGRAM: break;
    case LOWEST:
        for (int t = 0; t < width; t++)
            if (total[t] < sum->out[first + t] || total[t] != total[t]) sum->out[first + t] = total[t];
        break;
    case HIGHEST:
        for (int t = 0; t < width; t++)
            if (total[t] > sum->out[first + t] || total[t] != total[t]) sum->out[first + t] = total[t];
        break;
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
    case WITHIN_MAGNITUDES:
        for (int t = 0; t < width; t++) {
            double squares = total[t], sums = others[t], rest = squares - sums * sums / (double)rows;
            sum->out[first + t] += rows == 1 ? sums - sums : rest < 0.0 ? 0.0 : rest;
        }
        break;
    default:
        for (int t = 0; t < width; t++) sum->out[first + t] += total[t] * sum->weight;
    }
}

/* Add all sums of the plan over the rows of `x` times `scale`; gives 0 if it has done so.

   With `y`, a row is the sum over the places of a line of x times y; or what x is more than y. With `chosen`, those `samples` count; without, the
   first `samples`. With `copy`, the rows are put there too. */
FOR_EACH_PROCESSOR
int add_sums(const Plan *plan, const void *x, const void *y, const int64_t *chosen, int64_t samples, void *copy,
             double scale, double step) {
    const void *factors = plan->minus ? NULL : y;
    const int64_t of_sample = plan->lines * (factors ? 1 : plan->places), rows = samples * of_sample;
    Row block[BLOCK];
    Vector totals[MOST][2 * PARTS];
    int64_t at[BLOCK];
    if (plan->count > MOST) return 1;
    uint8_t few[FLAGS], *live = rows > FLAGS ? malloc(rows) : few;
    if (live == NULL) return 1;
    memset(live, 0, rows);
    memset(block, 0, sizeof block);
    int any_live = 0;
    for (int64_t i = 0; i < plan->count; i++) any_live |= plan->sums[i].what == LIVE;
    int64_t own[MOST], others[MOST];
    share_totals(plan, own, others);

    for (int64_t first = 0; first < plan->neurons; first += WIDE) {
        const int width = plan->neurons - first < WIDE ? (int)(plan->neurons - first) : WIDE;
        memset(totals, 0, plan->count * sizeof totals[0]);
        for (int64_t i = 0; i < plan->count; i++)
            if (plan->sums[i].what == LOWEST || plan->sums[i].what == HIGHEST)
                for (int p = 0; p < PARTS; p++) totals[i][p] += plan->sums[i].what == LOWEST ? INFINITY : -INFINITY;
        for (int64_t begin = 0; begin < rows; begin += BLOCK) {
            const int64_t some = rows - begin < BLOCK ? rows - begin : BLOCK;
            if (factors) multiply(plan, x, factors, scale, first, width, begin, some, block);
            else {
                find(plan, chosen, begin, some, at);
                take(plan, x, scale, first, width, at, some, block);
                if (y) subtract_rows(plan, block, first, width, begin, some, y);
            }
            if (copy) copy_rows(plan, block, first, width, begin, some, copy);
            for (int64_t i = 0; i < plan->count; i++) {
                const Sum *sum = &plan->sums[i];
                if (own[i] != i) continue;
                if (sum->what == HISTOGRAM) add_to_bins(sum, block, some, first, width);
                else if (sum->what == SPATIAL) add_spatial(block, begin, some, factors ? 1 : of_sample, totals[i]);
                else add(sum, block, some, totals[i]);
            }
            if (any_live) note_live(block, width, some, live + begin);
        }
        for (int64_t i = 0; i < plan->count; i++) {
            const double *total = (const double *)totals[own[i]];
            const double *sums = others[i] < 0 ? total + WIDE : (const double *)totals[others[i]];
            keep(&plan->sums[i], total, sums, first, width, rows, step);
        }
    }

    for (int64_t i = 0; i < plan->count; i++) {
        const Sum *sum = &plan->sums[i];
        if (sum->what == ROWS) sum->out[0] += (double)rows * sum->weight;
        if (sum->what == SAMPLES) sum->out[0] += (double)(factors ? rows : samples);
        if (sum->what == FREEDOM) sum->out[0] += (double)(rows - 1);
        if (sum->what == LIVE)
            for (int64_t r = 0; r < rows; r++) sum->out[0] += live[r];
    }
    if (live != few) free(live);
    return 0;
}
