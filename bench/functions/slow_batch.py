# SPDX-License-Identifier: Apache-2.0
import time


def main_handler(event, context):
    time.sleep(0.02)
