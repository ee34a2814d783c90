# SPDX-License-Identifier: Apache-2.0
"""Start of the Python runtime. A main script is compiled anew at each start, so the code lives in modules, whose compiled
form is kept beside them where the folder may be written. -B then holds for the user's code."""
import sys

sys.dont_write_bytecode = False
import weir_runtime  # noqa: E402

sys.dont_write_bytecode = True
weir_runtime.main()
