"""The standard engine: rule margin, position by position, with the loss of an expiry as a bound.

For S the spot, n > 0 the size of a short option and mark its undiscounted Black-76 value::

    short call   MM = (mm_call_spot * S + mark) * n
    short put    MM = (max(mm_put_spot * S, mm_put_mtm * mark) + mark) * n
    either       IM = (max(min_spot, max_spot - OTM / S) * S + mark) * n
    short put    IM at least mm_offset * MM
    expiry       the sum of these or, if smaller, the largest loss of all its options at
                 settlement, plus unpaired * forward * the calls that are short on balance
    perp, spot   rate * price * |size|, rate = base + per_unit * |size|
    base asset   counts with amount * S * base_factor (IM: times base_im_scale)
    depeg (IM)   depeg_factor * (threshold - stable price) * S * (|perp| + short option size)
    confidence   (1 - confidence) * oc_factor * S * size, under the threshold of its kind (IM)

Net margin = cash + unrealised profit and loss + base assets − the margins. Long options count for
nothing on their own, or with ``long_option_value`` at their mark. The same figures serve Derive's
standard margin and, without ``max_loss_offset``, Deribit's.

One concept a file: `option_margin`, `expiry_margin`, `linear_margin`, `base_collateral`,
`contingencies`; `breakdown` puts them together and `engine` makes margins and parts of them.

References
----------
Derive, "Standard Margin"; Deribit, "Linear USDC Options" and "Linear Perpetual".
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
