"""Gradient estimators of the bound: how the gradient reaches phi through discrete samples.

Each estimator turns one term of the bound (Eq. (12)) into a loss whose gradient estimates that of
the term. The pathwise part, through u_s and u_t inside the KL, is common to all; they differ in
the part that goes through z_t.

=======================  ========  ================================================================
module                   bias      idea
=======================  ========  ================================================================
``pathwise``             in phi    nothing goes through z_t: for a fixed or frozen forward process
``reinforce``            none      Eq. (13): weight by the log-probability of the sample
``leave_one_out``        none      REINFORCE with K samples, each measured against the others
``control_variate``      none      leave-one-out minus a learned additive model of the KL, whose
                                   own gradient is added back exactly
``concrete``             strong    Eq. (14): soft samples, cooled exponentially
``straight_through``     some      hard samples forward, Gumbel-softmax backward
``reinmax``              less      hard samples forward, second-order backward
=======================  ========  ================================================================
"""

from molfldd.core.estimators.base import Estimate, Estimator, Term, log_marginal
from molfldd.core.estimators.concrete import ConcreteRelaxation
from molfldd.core.estimators.control_variate import ControlVariate
from molfldd.core.estimators.leave_one_out import LeaveOneOut
from molfldd.core.estimators.pathwise import Pathwise
from molfldd.core.estimators.reinforce import Reinforce
from molfldd.core.estimators.reinmax import ReinMax
from molfldd.core.estimators.straight_through import StraightThrough

__all__ = [
    "ConcreteRelaxation",
    "ControlVariate",
    "Estimate",
    "Estimator",
    "LeaveOneOut",
    "Pathwise",
    "ReinMax",
    "Reinforce",
    "StraightThrough",
    "Term",
    "log_marginal",
]
