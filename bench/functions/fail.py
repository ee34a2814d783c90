# SPDX-License-Identifier: Apache-2.0
def main_handler(event, context):
    raise KeyError(event["order"])
