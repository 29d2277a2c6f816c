"""Simulates buyers by the models of purchase_model.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecommerce_assets.segmentation.purchase_model import BgNbd, Floats, GammaGamma


@dataclass(frozen=True)
class SimulatedBuyers:
    """Simulated buyers.

    Attributes
    ----------
    repeats, last, age, value, holdout
        One entry per buyer, as in `Histories`; value of the purchases until the last day; number of purchases in the
        holdout.
    buyer, time, price
        One entry per purchase: number of the buyer, days since day 0, and price.
    """

    repeats: Floats
    last: Floats
    age: Floats
    value: Floats
    holdout: Floats
    buyer: npt.NDArray[np.int64]
    time: Floats
    price: Floats


def simulate(
    model: BgNbd, spending: GammaGamma, buyers: int, days: int, seed: int, holdout_days: int = 0
) -> SimulatedBuyers:
    """Returns buyers with first purchases spread over `days`, and their purchases until `holdout_days` later."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, days, buyers)
    wait = 1 / rng.gamma(model.r, 1 / model.alpha, buyers)
    leaves = rng.beta(model.a, model.b, buyers)
    number, time = np.arange(buyers), first
    purchases = [(number, time)]
    while len(number):
        time = time + rng.exponential(wait[number])
        bought = time <= days + holdout_days
        number, time = number[bought], time[bought]
        purchases.append((number, time))
        stays = rng.random(len(number)) > leaves[number]
        number, time = number[stays], time[stays]
    buyer, at = (np.concatenate(column) for column in zip(*purchases, strict=True))
    price = rng.gamma(spending.p, 1 / rng.gamma(spending.q, 1 / spending.gamma, buyers)[buyer])
    past = at <= days
    last = np.zeros(buyers)
    np.maximum.at(last, buyer[past], (at - first[buyer])[past])
    return SimulatedBuyers(
        repeats=np.bincount(buyer[past], minlength=buyers) - 1.0,
        last=last,
        age=days - first,
        value=np.bincount(buyer[past], price[past], minlength=buyers),
        holdout=np.bincount(buyer[~past], minlength=buyers).astype(np.float64),
        buyer=buyer,
        time=at,
        price=price,
    )
