# SPDX-License-Identifier: Apache-2.0
"""Prints the 2,000 orders of the incident in docs/dead-letters.md, one a line: the same ones each time."""
import json
import random

random.seed(7)
for number in range(1, 2001):
    order = {
        "order": number,
        "customer": random.choice(["acme", "globex", "initech"]),
        "amount": round(random.uniform(1, 500), 2),
        "currency": random.choice(["EUR", "USD"]),
    }
    if number > 1600 and random.random() < 0.3:
        order["currency"] = "GBP"
    if number % 401 == 0:
        order["amount"] = -order["amount"]
    if number % 97 == 0:
        del order["currency"]
    print(json.dumps(order))
