#!/usr/bin/env python3
"""Prints the polynomial coefficients of lib/Codegen/Common/VectorMath*.cpp.

Each line fits g(x) ~ sum c_i x^i on [lo, hi] by interpolation at Chebyshev nodes, which is within a small factor of the
best polynomial, in 60 digits; the error printed is that of the fit before rounding, times the given weight."""
from mpmath import mp, mpf, cos, pi, exp, log, tanh, erf, erfc, sin, sqrt, matrix, lu_solve, linspace

mp.dps = 60


def fit(name, g, lo, hi, degree, weight=lambda x: 1, double=False):
    lo, hi = mpf(lo), mpf(hi)
    nodes = [(lo + hi) / 2 + (hi - lo) / 2 * cos(pi * (2 * i + 1) / (2 * degree + 2)) for i in range(degree + 1)]
    a = matrix(degree + 1, degree + 1)
    y = matrix(degree + 1, 1)
    for i, x in enumerate(nodes):
        y[i] = g(x)
        for j in range(degree + 1):
            a[i, j] = x**j
    c = list(lu_solve(a, y))
    value = lambda x: sum(ci * x**i for i, ci in enumerate(c))
    error = max(abs((value(x) - g(x)) * weight(x)) for x in linspace(lo, hi, 501) if x != 0)
    digits = 18 if double else 10
    print(f"// {name} on [{float(lo):.4f}, {float(hi):.4f}], error {float(error):.1e}")
    print("{" + ", ".join(mp.nstr(ci, digits) for ci in c) + "}")


half = log(2) / 2 * mpf("1.001")
eps = mpf("1e-30")
fit("f32 (exp(r) - 1 - r) / r^2", lambda r: (exp(r) - 1 - r) / r**2, -half, half, 5, lambda r: r**2)
low, high = sqrt(mpf(1) / 2) - 1, sqrt(mpf(2)) - 1
fit("f32 (log(1 + f) - f + f^2 / 2) / f^3", lambda f: (log(1 + f) - f + f**2 / 2) / f**3, low, high, 8, lambda f: f**2)
fit("f32 (tanh(x) - x) / x^3 in x^2", lambda z: (tanh(sqrt(z)) - sqrt(z)) / sqrt(z)**3, eps, mpf("0.625")**2, 5,
    lambda z: z)
fit("f32 (erf(x) - x) / x in x^2", lambda z: (erf(sqrt(z)) - sqrt(z)) / sqrt(z), eps, mpf(1), 7)
fit("f32 -log(erfc(x))", lambda x: -log(erfc(x)), mpf("0.99"), mpf(4), 8, lambda x: erfc(x))
quarter = pi / 4 * mpf("1.001")
fit("f32 (sin(r) - r) / r^3 in r^2", lambda z: (sin(sqrt(z)) - sqrt(z)) / sqrt(z)**3, eps, quarter**2, 3, lambda z: z)
fit("f32 (cos(r) - 1 + r^2 / 2) / r^4 in r^2", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, eps, quarter**2, 2,
    lambda z: z**2)
fit("f64 (exp(r) - 1 - r) / r^2", lambda r: (exp(r) - 1 - r) / r**2, -half, half, 9, lambda r: r**2, double=True)
# log(1 + f) = 2 s + s^3 P(s^2) with s = f / (2 + f)
fit("f64 (log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2",
    lambda z: (log((1 + sqrt(z)) / (1 - sqrt(z))) - 2 * sqrt(z)) / sqrt(z)**3, eps, (high / (2 + high))**2 * mpf("1.01"),
    7, lambda z: z, double=True)


def fit_table(name, g, width, degree):
    """32 polynomials of g(x) / x for an odd g, around the multiples of `width`: a row for each power of the distance."""
    width, rows = mpf(width), [[] for _ in range(degree + 1)]
    quotient = lambda x: g(x) / x if x else mp.diff(g, 0)
    nodes = [width / 2 * cos(pi * (2 * i + 1) / (2 * degree + 2)) for i in range(degree + 1)]
    error = 0
    for interval in range(32):
        a = matrix(degree + 1, degree + 1)
        y = matrix(degree + 1, 1)
        for i, d in enumerate(nodes):
            y[i] = quotient(interval * width + d)
            for j in range(degree + 1):
                a[i, j] = d**j
        c = list(lu_solve(a, y))
        for row, ci in zip(rows, c):
            row.append(ci)
        for d in linspace(-width / 2, width / 2, 41):
            exact = quotient(interval * width + d)
            error = max(error, abs((sum(ci * d**i for i, ci in enumerate(c)) - exact) / exact))
    print(f"// {name}: g(x) / x around multiples of {float(width)}, relative error {float(error):.1e}")
    for row in rows:
        print("{" + ", ".join("0" if abs(ci) < mpf("1e-30") else mp.nstr(ci, 9) for ci in row) + "},")


fit_table("f32 erf", erf, mpf(1) / 8, 4)
fit_table("f32 tanh", tanh, mpf(37) / 128, 5)
