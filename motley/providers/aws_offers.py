"""What EC2 has on offer, and for how much: kinds, spot prices of the moment, and the price list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from motley.clock import Clock
from motley.providers.aws_account import AwsAccount
from motley.providers.base import Needs, Quote
from motley.providers.cloud import Options, fitting

PRICING_REGION = "us-east-1"
"""The price list of all regions is to be had in few of them."""
MIB = 1024**2


class AwsOffers:
    """Quotes of one account. Prices from the price list are kept while the process lives."""

    def __init__(self, options: Options, account: AwsAccount, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._kinds_wanted = options.names("kinds")
        self._pinned = options.prices("prices")
        self._margin = options.number("spot_margin")
        self._has_subnet = bool(options.text("subnet"))
        self._prices: dict[tuple[str, str], float | None] = {}

    def fixed(self, region: str, needs: Needs) -> Iterator[Quote]:
        """At the pinned price, or at the one of the price list; kinds that have none are left out."""
        for quote in self._kinds(region, needs):
            price = self._pinned.get(quote.kind) or self._list_price(region, quote.kind)
            if price is not None:
                yield replace(quote, usd_per_hour=price)

    def spot(self, region: str, needs: Needs) -> Iterator[Quote]:
        """One for each zone; with a subnet, one at the price of the dearest, because EC2 takes the subnet's zone.

        The price is the pinned one, or that of the moment with the margin on top: the highest bid.
        """
        quotes = {quote.kind: quote for quote in self._kinds(region, needs)}
        prices = self._spot_prices(region, list(quotes)) if quotes else {}
        for (kind, place), price in prices.items():
            most = self._pinned.get(f"{kind}/spot") or round(price * (1 + self._margin), 6)
            yield replace(quotes[kind], place=place, usd_per_hour=most, spot=True)

    def _kinds(self, region: str, needs: Needs) -> Sequence[Quote]:
        """Those that the region has and that meet the needs, without their prices."""
        wanted = [{"Name": "instance-type", "Values": list(self._kinds_wanted)}]
        with self._account.asking("DescribeInstanceTypes"):
            pages = self._account.client("ec2", region).get_paginator("describe_instance_types")
            found = [
                _unpriced(region, each) for page in pages.paginate(Filters=wanted) for each in page["InstanceTypes"]
            ]
        return fitting(found, needs)

    def _spot_prices(self, region: str, kinds: Sequence[str]) -> dict[tuple[str, str], float]:
        """By kind and place."""
        prices: dict[tuple[str, str], float] = {}
        now = datetime.fromtimestamp(self._clock.now_s(), UTC)
        with self._account.asking("DescribeSpotPriceHistory"):
            pages = self._account.client("ec2", region).get_paginator("describe_spot_price_history")
            asked = {"InstanceTypes": kinds, "ProductDescriptions": ["Linux/UNIX"], "StartTime": now}
            for each in (each for page in pages.paginate(**asked) for each in page["SpotPriceHistory"]):
                key = (each["InstanceType"], region if self._has_subnet else each["AvailabilityZone"])
                prices[key] = max(prices.get(key, 0.0), float(each["SpotPrice"]))
        return prices

    def _list_price(self, region: str, kind: str) -> float | None:
        """None where the price list has no such kind."""
        if (region, kind) not in self._prices:
            wanted = {"instanceType": kind, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared"}
            wanted |= {"preInstalledSw": "NA", "capacitystatus": "Used"}
            filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
            with self._account.asking("GetProducts"):
                client = self._account.client("pricing", PRICING_REGION)
                found = client.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
                self._prices[region, kind] = hourly_price(found)
        return self._prices[region, kind]


def hourly_price(price_list: Sequence[str]) -> float | None:
    """The on-demand price of the first product in a reply of GetProducts that has one, in dollars."""
    for product in map(json.loads, price_list):
        for term in product.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                price = float(dimension["pricePerUnit"].get("USD", 0))
                if dimension["unit"] == "Hrs" and price > 0:
                    return price
    return None


def _unpriced(region: str, described: Mapping[str, Any]) -> Quote:
    """A kind as DescribeInstanceTypes describes it."""
    gpus = described.get("GpuInfo", {}).get("Gpus", [])
    return Quote(
        provider="aws",
        kind=described["InstanceType"],
        place=region,
        cpus=described["VCpuInfo"]["DefaultVCpus"],
        memory_bytes=described["MemoryInfo"]["SizeInMiB"] * MIB,
        usd_per_hour=0.0,
        accelerators=sum(gpu["Count"] for gpu in gpus),
        accelerator_memory_bytes=min((gpu["MemoryInfo"]["SizeInMiB"] * MIB for gpu in gpus), default=0),
    )
