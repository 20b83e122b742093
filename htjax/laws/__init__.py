"""Laws of weights and of noise beyond the symmetric stable one.

A module for each: `pareto` and `zeta`, power laws of real and of whole numbers;
`skewed` and `positive`, stable laws of any skewness and of one side;
`tempered`, one-sided stable laws whose tail is cut exponentially; `gram`, the
eigenvalues of heavy-tailed matrices. Draws are traced; distribution functions
are evaluated on the host in float64, and refuse what is traced.
"""

from htjax.laws import gram, pareto, positive, skewed, tempered, zeta

__all__ = ['gram', 'pareto', 'positive', 'skewed', 'tempered', 'zeta']
