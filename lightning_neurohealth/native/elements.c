/* Sums and ends over all elements of tensors. */

#include <math.h>
#include <string.h>

#include "vectors.h"

typedef float Singles __attribute__((vector_size(LANES * sizeof(float))));

typedef struct {
    Row sums, squares, least, most;
} Totals;

/* Take the first `count` of WIDE numbers; the others count as the first one, but not in the sums. */
INLINE void add_elements(const float *x, int count, Totals *into) {
    float some[WIDE];
    if (count < WIDE) {
        for (int t = 0; t < WIDE; t++) some[t] = x[t < count ? t : 0];
        x = some;
    }
    EACH_PART {
        Singles singles;
        memcpy(&singles, x + p * LANES, sizeof singles);
        Vector v = __builtin_convertvector(singles, Vector);
        into->least[p] = chosen(v < into->least[p], v, into->least[p]);
        into->most[p] = chosen(v > into->most[p], v, into->most[p]);
        if (count < WIDE)
            for (int t = 0; t < LANES; t++) v[t] = p * LANES + t < count ? v[t] : 0.0;
        into->sums[p] += v;
        into->squares[p] += v * v;
    }
}

/* Put the sum, the sum of squares, the least and the greatest of each tensor into `out`, which has four rows of as many
   numbers as there are tensors. NaN is less and greater than all; of an empty tensor all are 0. */
FOR_EACH_PROCESSOR
void sum_elements(const float *const *from, const int64_t *counts, int64_t tensors, double *out) {
    for (int64_t i = 0; i < tensors; i++) {
        const float *x = from[i];
        const int64_t count = counts[i], whole = count - count % WIDE;
        Totals totals;
        EACH_PART totals.sums[p] = totals.squares[p] = (Vector){0};
        EACH_PART totals.least[p] = (Vector){0} + INFINITY, totals.most[p] = (Vector){0} - INFINITY;
        for (int64_t j = 0; j < whole; j += WIDE) add_elements(x + j, WIDE, &totals);
        if (whole < count) add_elements(x + whole, (int)(count - whole), &totals);

        double sum = 0.0, squares = 0.0, least = count ? INFINITY : 0.0, most = count ? -INFINITY : 0.0;
        for (int t = 0; t < WIDE; t++) {
            sum += totals.sums[t / LANES][t % LANES], squares += totals.squares[t / LANES][t % LANES];
            least = fmin(least, totals.least[t / LANES][t % LANES]);
            most = fmax(most, totals.most[t / LANES][t % LANES]);
        }
        const int bad = squares != squares; /* of infinity the square is infinite */
        out[i] = sum, out[tensors + i] = squares;
        out[2 * tensors + i] = bad ? NAN : least, out[3 * tensors + i] = bad ? NAN : most;
    }
}
