/* The uniform quantizer (t = 1) on flat fp32 memory: one pass forward, one pass backward. Built by native.py.
   The functions for rows take a step and a bound for each of them; a row has n numbers. */

#include <math.h>

static inline float clipped(float x, float low, float q) { return x < low ? low : (x > q ? q : x); }

/* out = d * round(clamp(x, low, q) / d), low = -q or 0; adding zero turns -0 into +0 */
void quantize(const float *restrict x, float *restrict out, long n, float d, float low, float q)
{
#pragma omp simd
    for (long i = 0; i < n; i++)
        out[i] = rintf(clipped(x[i], low, q) / d) * d + 0.0f;
}

/* to_x = g inside the bounds, else 0; sums[0] = <g, round(v/d) - v/d>; sums[1] = sum of g sgn(v) outside */
void gradients(const float *restrict g, const float *restrict x, float *restrict to_x, long n, float d, float low,
               float q, double *restrict sums)
{
    float sign = low < 0.0f ? -1.0f : 0.0f;
    for (long begin = 0; begin < n; begin += 4096) {
        long end = begin + 4096 < n ? begin + 4096 : n;
        float to_d = 0.0f, to_q = 0.0f;
#pragma omp simd reduction(+ : to_d, to_q)
        for (long i = begin; i < end; i++) {
            float position = clipped(x[i], low, q) / d;
            float beyond = x[i] > q ? g[i] : (x[i] < low ? sign * g[i] : 0.0f);
            to_x[i] = (x[i] > q || x[i] < low) ? 0.0f : g[i];
            to_d += (rintf(position) - position) * g[i];
            to_q += beyond;
        }
        sums[0] += to_d;
        sums[1] += to_q;
    }
}

void quantize_rows(const float *restrict x, float *restrict out, long rows, long n, const float *restrict d,
                   const float *restrict q)
{
    for (long row = 0; row < rows; row++)
        quantize(x + row * n, out + row * n, n, d[row], -q[row], q[row]);
}

/* sums: two numbers a row, as in gradients() */
void gradients_rows(const float *restrict g, const float *restrict x, float *restrict to_x, long rows, long n,
                    const float *restrict d, const float *restrict q, double *restrict sums)
{
    for (long row = 0; row < rows; row++) {
        sums[2 * row] = sums[2 * row + 1] = 0.0;
        gradients(g + row * n, x + row * n, to_x + row * n, n, d[row], -q[row], q[row], sums + 2 * row);
    }
}
