"""Portfolio margin: the worst of a grid of scenarios, and contingencies.

One account and one underlying with spot S, in the settlement currency; the parameters are those of
`margin.engines.scenario.rules.ScenarioRules`.

- A scenario moves the spot to ``S * spot`` and the vols as it says. Of an expiry's forward F the
  share that has settled in its last 1 800 s stays: ``F' = (F - fixed) * spot + fixed``.
- Vols move with ``m = (30 days / max(t, dte_floor))^p``, p the short power up to 30 days and the
  long one beyond: up ``max(vol * (1 + vol_range_up * m), min_vol_after_up_shock)``, down ``vol *
  max(0, 1 - vol_range_down * m)``.
- The options of an expiry are worth x = the sum of their Black-76 values. What they are worth in
  a scenario is discounted statically, long and short by different factors, see
  `margin.engines.scenario.kernel`. The scenario's profit and loss is that less today's value,
  times the dampening. In the skew rows, whose vols move with moneyness, either sign is a loss.
- Perps, spot and risk-cancelling collateral move with the spot.
- The basis contingency moves the forwards alone, each expiry to its own disadvantage.

Net margin = mark-to-market + cash + factor * min(worst scenario, basis contingency) −
contingencies (`margin.engines.scenario.contingencies`).

References
----------
Derive, "Portfolio Margin" (PMRM2): the form in full. Deribit and Paradex, "Portfolio Margin": the
same form with fewer parts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
