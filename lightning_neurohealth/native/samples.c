/* Evenly spaced elements of many tensors, and states that a step is added to. */

#include <math.h>
#include <stdint.h>

#define AHEAD 24 /* elements that are asked for before they are needed: each lies in another line of memory */

/* Put every stride-th element of each tensor into `out`, those of one tensor behind those of another. */
void gather_samples(const float *const *from, const int64_t *counts, const int64_t *strides, int64_t tensors,
                    double *out) {
    for (int64_t i = 0; i < tensors; i++) {
        const float *x = from[i];
        const int64_t count = counts[i], stride = strides[i];
        for (int64_t j = 0; j < count; j++) {
            if (stride > 4 && j + AHEAD < count) __builtin_prefetch(x + (j + AHEAD) * stride, 0, 3);
            out[j] = x[j * stride];
        }
        out += count;
    }
}

/* Put into `out`, which has three rows of as many numbers as there are tensors, how far the samples of each have moved,
   how long they were, and the ratio of the two; NaN for that of samples that were 0. */
void compare_samples(const double *before, const double *after, const int64_t *counts, int64_t tensors, double *out) {
    for (int64_t i = 0; i < tensors; i++) {
        double change = 0.0, size = 0.0;
        for (int64_t j = 0; j < counts[i]; j++) {
            const double difference = after[j] - before[j];
            change += difference * difference;
            size += before[j] * before[j];
        }
        out[i] = sqrt(change), out[tensors + i] = sqrt(size);
        out[2 * tensors + i] = size > 0.0 ? out[i] / out[tensors + i] : NAN;
        before += counts[i], after += counts[i];
    }
}

/* Let states fade and add to them what a step has brought, which is nothing afterwards. */
void merge_sums(double *states, double *step, int64_t count, double fading) {
    for (int64_t i = 0; i < count; i++) {
        states[i] = states[i] * fading + step[i];
        step[i] = 0.0;
    }
}
