# SPDX-License-Identifier: Apache-2.0
"""Start of the runtime for executables; like the Python runtime's, it keeps the compiled form of what it imports."""
import sys

sys.path[0:0] = [sys.path[0] + "/../python"]
sys.dont_write_bytecode = False
import weir_exec  # noqa: E402

weir_exec.main()
