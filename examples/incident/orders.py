# SPDX-License-Identifier: Apache-2.0
"""What an order costs in euros. The incident of docs/dead-letters.md: nobody told it about pounds, and a shop leaves the currency out."""
RATES = {"EUR": 1.0, "USD": 0.92}


def price(order):
    return order["amount"] * RATES[order["currency"]]


def main_handler(event, context):
    if event["amount"] < 0:
        raise ValueError(f"order {event['order']}: negative amount {event['amount']}")
    total = price(event)
    print("order", event["order"], "costs", total, "EUR")
    return {"order": event["order"], "total": total}
