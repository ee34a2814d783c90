# SPDX-License-Identifier: Apache-2.0
"""The smallest function: weir deploy hello.py && weir invoke hello --data '{"name": "Ada"}'"""


def main_handler(event, context):
    name = event.get("name", "world") if isinstance(event, dict) else "world"
    print("greeting", name)  # becomes the event's log: weir logs hello
    return {"greeting": f"Hello, {name}!", "attempt": context["attempt"], "request_id": context["request_id"]}
