# SPDX-License-Identifier: Apache-2.0
"""Turns an order into an invoice. It has a bug that real code has too: it trusts every caller to send a field.

Orders without "currency" fail three layers down, are retried three times, and become dead letters with their traceback.
orders_fixed.py is the same function mended; deploy it as `orders` and replay the letters.
"""
from decimal import Decimal

VAT_RATES = {"EUR": Decimal("0.19"), "GBP": Decimal("0.20"), "CNY": Decimal("0.13"), "USD": Decimal("0")}
DECIMALS = {"EUR": 2, "GBP": 2, "CNY": 2, "USD": 2}


def main_handler(event, context):
    net, vat = price_order(event)
    invoice = {
        "order": event["id"],
        "customer": event["customer"],
        "lines": len(event["items"]),
        "net": str(net),
        "vat": str(vat),
        "total": str(net + vat),
    }
    print(f"order {event['id']}: {invoice['total']} for {event['customer']}")
    return invoice


def price_order(order):
    net = sum((Decimal(str(item["price"])) * item["qty"] for item in order["items"]), Decimal(0))
    return round_money(net, order), round_money(net * vat_rate(order), order)


def vat_rate(order):
    return VAT_RATES[order["currency"]]


def round_money(amount, order):
    return round(amount, DECIMALS[order["currency"]])
