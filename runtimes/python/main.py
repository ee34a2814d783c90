# SPDX-License-Identifier: Apache-2.0
"""Start of the Python runtime. A main script is compiled anew at each start, so the code lives in modules, whose compiled
form is kept beside them where the folder may be written. -B then holds for the user's code."""
import os
import sys

sys.dont_write_bytecode = False
if os.environ.pop("WEIR_DEBUG", None) == "pdb":  # set by weir run --debug, never by the server
    from weir_debug import main
else:
    from weir_runtime import main

sys.dont_write_bytecode = True
main()
