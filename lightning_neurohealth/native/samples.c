/* Evenly spaced elements of many tensors, and states that a step is added to. */

#include <math.h>
#include <stdint.h>
#include <stddef.h>

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

/* What a training step has done: the samples of the gradients into `gradients`, those of the parameters as they are now
   into `after`, and what compare_samples says of `before` and them into `out`. */
void sample_step(const float *const *parameters, const float *const *of_gradients, const int64_t *counts,
                 const int64_t *strides, int64_t tensors, const double *before, double *after, double *gradients,
                 double *out) {
    gather_samples(of_gradients, counts, strides, tensors, gradients);
    gather_samples(parameters, counts, strides, tensors, after);
    compare_samples(before, after, counts, tensors, out);
}

/* What a step brings to states, all of which are `count` numbers behind one another. */
typedef struct {
    double *states; /* NULL to forget what it brings */
    double *step;
    int64_t count;
    int64_t kind;   /* 0 for sums, 1 for minima, 2 for maxima */
    double fading;  /* what sums are multiplied with before */
} Brought;

/* Add what a step has brought to the states; it is nothing afterwards. */
void merge_states(const Brought *brought, int64_t vectors) {
    for (int64_t i = 0; i < vectors; i++) {
        double *states = brought[i].states, *step = brought[i].step, fading = brought[i].fading;
        const int64_t count = brought[i].count, kind = brought[i].kind;
        const double empty = kind == 0 ? 0.0 : kind == 1 ? INFINITY : -INFINITY;
        if (states != NULL && kind == 0)
            for (int64_t j = 0; j < count; j++) states[j] = states[j] * fading + step[j];
        else if (states != NULL)
            for (int64_t j = 0; j < count; j++) {
                const int beyond = kind == 1 ? step[j] < states[j] : step[j] > states[j];
                if (beyond || step[j] != step[j]) states[j] = step[j];
            }
        for (int64_t j = 0; j < count; j++) step[j] = empty;
    }
}
