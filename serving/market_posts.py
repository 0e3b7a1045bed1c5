"""Posts of bars and quotes: applied, recorded and answered, once under each idempotency key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from decisions.batch import EncodedResponse, check_key
from decisions.errors import RequestError
from ledger.following import AlreadyAnsweredError
from market.core.clock import Interval
from market.core.errors import MargincastError
from market.sources.http import bar_updates, quote_updates
from monitoring.market_state.bar_updates import Correction
from monitoring.market_state.messages import BarResult, BarsRequest, BarsResponse
from monitoring.quotes.messages import QuoteResult, QuotesRequest, QuotesResponse
from monitoring.shared_market import PostOrigin, SharedMarket
from serving.http.problems import encoded_refusal
from serving.telemetry.metrics.metrics import Metrics

_Response = TypeVar("_Response", BarsResponse, QuotesResponse)


class MarketPosts:
    """Takes posts for a live market.

    Parameters
    ----------
    market:
        The market.
    metrics:
        Counts what became of bars and quotes.
    """

    def __init__(self, market: SharedMarket, metrics: Metrics) -> None:
        self._market, self._metrics = market, metrics

    def bars(self, request: BarsRequest, sender: PostOrigin, now: int | None) -> EncodedResponse:
        """Post bars to the live market; what is new is on disk before it counts.

        Parameters
        ----------
        request:
            The bars; whether its sender may correct is checked before.
        sender:
            Whose request it is.
        now:
            The wall clock where it counts.

        Raises
        ------
        RequestError
            There is no such interval, which is kept under the key, or the key is impossible.
        LedgerConflictError
            The key came with another body.
        LedgerError
            The bars could not be recorded; the market did not move.
        """
        batch = bar_updates(request.bars, now)

        def complete(response: BarsResponse) -> BarsResponse:
            results = batch.in_order(
                response.results,
                lambda i, why: BarResult(request.bars[i].symbol, "", "rejected", why),
            )
            # Times are answered as they were posted.
            pairs = zip(results, request.bars, strict=True)
            results = [msgspec.structs.replace(result, ts=bar.ts) for result, bar in pairs]
            return BarsResponse(results, response.as_of)

        def post(origin: PostOrigin) -> BarsResponse:
            try:
                Interval.parse(request.interval)
            except MargincastError as error:
                raise RequestError(str(error)) from None
            return self._market.post(
                request.interval,
                batch.updates,
                now=now,
                final=request.final,
                correction=Correction(origin.owner) if request.correct else None,
                origin=origin,
            )

        return self._once(sender, post, complete, self._metrics.bars)

    def quotes(
        self, request: QuotesRequest, sender: PostOrigin, now: int | None
    ) -> EncodedResponse:
        """Post quotes to the live market; what is new is on disk before it counts.

        Parameters are those of `bars`.

        Raises
        ------
        RequestError
            The key is impossible.
        NoMarketError
            On the market's clock, there is no market yet.
        LedgerConflictError
            The key came with another body.
        LedgerError
            The quotes could not be recorded; the market did not move.
        """
        batch = quote_updates(request.quotes, now)

        def complete(response: QuotesResponse) -> QuotesResponse:
            results = batch.in_order(
                response.results,
                lambda i, why: QuoteResult(request.quotes[i].instrument, "", "rejected", why),
            )
            pairs = zip(results, request.quotes, strict=True)
            results = [msgspec.structs.replace(r, ts=quote.ts or r.ts) for r, quote in pairs]
            return QuotesResponse(results, response.as_of)

        def post(origin: PostOrigin) -> QuotesResponse:
            return self._market.post_quotes(batch.updates, now=now, origin=origin)

        return self._once(sender, post, complete, self._metrics.quotes)

    def _once(
        self,
        sender: PostOrigin,
        post: Callable[[PostOrigin], _Response],
        complete: Callable[[_Response], _Response],
        count: Callable[[list[Any]], None],
    ) -> EncodedResponse:
        """Post and count the results, or repeat the answer that the sender's key got before."""

        def answer(origin: PostOrigin) -> EncodedResponse:
            response = complete(post(origin))
            count(response.results)
            return EncodedResponse(msgspec.json.encode(response))

        request = sender.request
        if request is None:
            return answer(sender)
        check_key(request.key)
        keeping = replace(sender, encode=lambda response: msgspec.json.encode(complete(response)))
        try:
            try:
                return answer(keeping)
            except RequestError as error:
                self._market.refuse(sender, *encoded_refusal(error))
                raise
        except AlreadyAnsweredError as error:
            conflict = request.conflict(error.answer.body_sha256, sender.body_sha256)
            if conflict is not None:
                raise conflict from None
            return EncodedResponse.repeating(error.answer)
