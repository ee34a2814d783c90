# SPDX-License-Identifier: Apache-2.0
def main_handler(event, context):
    return event
