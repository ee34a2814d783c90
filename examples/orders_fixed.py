# SPDX-License-Identifier: Apache-2.0
"""orders.py, mended: an order that names no currency is in the shop's own.

    weir deploy orders_fixed.py --name orders
    weir dlq replay --function orders
"""
from decimal import Decimal

VAT_RATES = {"EUR": Decimal("0.19"), "GBP": Decimal("0.20"), "CNY": Decimal("0.13"), "USD": Decimal("0")}
DECIMALS = {"EUR": 2, "GBP": 2, "CNY": 2, "USD": 2}
SHOP_CURRENCY = "EUR"


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
    currency = order.get("currency", SHOP_CURRENCY)
    net = sum((Decimal(str(item["price"])) * item["qty"] for item in order["items"]), Decimal(0))
    return round_money(net, currency), round_money(net * VAT_RATES[currency], currency)


def round_money(amount, currency):
    return round(amount, DECIMALS[currency])
