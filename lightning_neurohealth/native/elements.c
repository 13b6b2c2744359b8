/* Sums and ends over all elements of tensors. */

#include <math.h>
#include <stddef.h>

#include "vectors.h"

#pragma GCC optimize("O3") /* these loops are left to the compiler */

/* Put the sum, the sum of squares, the least and the greatest of each tensor into `out`, which has four rows of as many
   numbers as there are tensors. NaN is less and greater than all; of an empty tensor all are 0. Of tensors with `rows`
   the squares of each row go into `squares` too, one behind another. */
FOR_EACH_PROCESSOR
void sum_elements(const float *const *from, const int64_t *counts, const int64_t *rows, int64_t tensors, double *out,
                  double *squares) {
    for (int64_t i = 0; i < tensors; i++) {
        const int64_t parts = rows[i] > 0 ? rows[i] : 1, count = counts[i] / parts, whole = count - count % WIDE;
        double sums[WIDE] = {0}, all_squares = 0.0;
        float least[WIDE], most[WIDE];
        for (int t = 0; t < WIDE; t++) least[t] = INFINITY, most[t] = -INFINITY;
        for (int64_t part = 0; part < parts; part++) {
            const float *x = from[i] + part * count;
            double of_row[WIDE] = {0};
            for (int64_t j = 0; j < whole; j += WIDE)
                for (int t = 0; t < WIDE; t++) {
                    const float v = x[j + t];
                    sums[t] += v, of_row[t] += (double)v * v;
                    least[t] = v < least[t] ? v : least[t];
                    most[t] = v > most[t] ? v : most[t];
                }
            for (int64_t j = whole; j < count; j++) {
                const float v = x[j];
                sums[0] += v, of_row[0] += (double)v * v;
                least[0] = v < least[0] ? v : least[0];
                most[0] = v > most[0] ? v : most[0];
            }
            for (int t = 1; t < WIDE; t++) of_row[0] += of_row[t];
            all_squares += of_row[0];
            if (rows[i] > 0) *squares++ = of_row[0];
        }
        for (int t = 1; t < WIDE; t++) {
            sums[0] += sums[t];
            least[0] = least[t] < least[0] ? least[t] : least[0];
            most[0] = most[t] > most[0] ? most[t] : most[0];
        }
        if (counts[i] == 0) least[0] = most[0] = 0.0f;
        const int bad = all_squares != all_squares; /* of infinity the square is infinite */
        out[i] = sums[0], out[tensors + i] = all_squares;
        out[2 * tensors + i] = bad ? NAN : least[0], out[3 * tensors + i] = bad ? NAN : most[0];
    }
}

/* Put into `out`, for some groups of rows, the root of the squares of each row, which begin at `begins` in `squares`, and
   of its element of the tensor at the place `beside`, if that is not negative. */
void find_lengths(const double *squares, const int64_t *counts, const int64_t *begins, const int64_t *beside,
                  int64_t groups, const float *const *tensors, double *out) {
    for (int64_t i = 0; i < groups; i++) {
        const float *more = beside[i] < 0 ? NULL : tensors[beside[i]];
        for (int64_t j = 0; j < counts[i]; j++) {
            const double other = more == NULL ? 0.0 : more[j];
            *out++ = sqrt(squares[begins[i] + j] + other * other);
        }
    }
}

/* Put the norm of each tensor into `out`, and behind them that of all together; `large` has the squares of those of more
   than `most` elements, one after another. */
FOR_EACH_PROCESSOR
void find_norms(const float *const *from, const int64_t *counts, int64_t tensors, int64_t most, const float *large,
                double *out) {
    double of_all = 0.0;
    for (int64_t i = 0; i < tensors; i++) {
        const float *x = from[i];
        double squares[WIDE] = {0}, total = 0.0;
        if (counts[i] > most) total = *large++;
        else {
            const int64_t whole = counts[i] - counts[i] % WIDE;
            for (int64_t j = 0; j < whole; j += WIDE)
                for (int t = 0; t < WIDE; t++) squares[t] += (double)x[j + t] * x[j + t];
            for (int64_t j = whole; j < counts[i]; j++) total += (double)x[j] * x[j];
            for (int t = 0; t < WIDE; t++) total += squares[t];
        }
        out[i] = sqrt(total);
        of_all += total;
    }
    out[tensors] = sqrt(of_all);
}
