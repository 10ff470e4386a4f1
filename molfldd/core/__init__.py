"""Forward-learned discrete diffusion for any blocks of categorical variables.

Read in this order: ``blocks`` (data), ``network`` (what you bring), ``forward`` (q_phi, Eq. 9),
``coupling`` (Eq. 11), ``reverse`` (p_theta, Eq. 7), ``diffusion`` (both), ``bound`` (Eqs. 4-5),
``estimators`` (Eqs. 13-14, Algorithm 1), ``report`` (the bound of held-out data), ``sampling``
(Algorithm 2), ``training``. Beyond the paper: how a step draws its elements together
(``joint``), as a ``mixture``, or one after another (``autoregressive``); several numbers of steps
(``clock``); ``calibration``; how much of a step's values depends on one another (``dependence``).
Nothing here knows chemistry, words or pixels.
"""
