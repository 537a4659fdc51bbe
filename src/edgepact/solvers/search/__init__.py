"""Rivals that are told nothing: they look for the peak of the curve of profits.

One algorithm a file; none knows how devices decide or what they are like.

- `random_quotes`: a price drawn from all that may be posted, whatever was seen;
- `grid`: a grid of prices from coarse to fine, then the best one;
- `golden_section`: shrinks a bracket by the golden ratio, right where there is one peak;
- `cma_es`: an evolution strategy whose step size adapts;
- `gaussian_process`: Bayesian optimisation, the largest expected improvement next.

`trials` is what the grid, the golden section and CMA-ES share: trial and error that ends,
and keeps to its best quote from then on.
"""
