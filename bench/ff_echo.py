# SPDX-License-Identifier: Apache-2.0
"""The echo handler for functions-framework."""
import functions_framework


@functions_framework.http
def echo(request):
    return request.get_json()
