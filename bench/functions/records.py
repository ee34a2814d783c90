# SPDX-License-Identifier: Apache-2.0
import json


def handler(event):
    return event


def main_handler(event, context):
    loads = json.loads
    for record in event["Records"]:
        handler(loads((record.get("Ckafka") or record["CMQ"])["msgBody"]))
