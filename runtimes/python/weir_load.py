# SPDX-License-Identifier: Apache-2.0
"""From an INIT to a callable handler: the environment, the module search path, and errors that say what to change."""
import os
import sys

import weir_json
from weir_errors import Refused, shorten_paths


def prepare(init):
    """Sets up the process for the code; returns what every event's context starts from."""
    env = init.get("env") or {}
    os.environ.update(env)
    if "TZ" in env:
        import time
        time.tzset()
    code_dir = os.path.abspath(init["code_dir"])
    os.chdir(code_dir)
    shorten_paths(code_dir)
    sys.path[0] = code_dir  # was the folder of the runtime
    extra = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
    sys.path[1:1] = [os.path.abspath(p) for p in extra]
    sys.argv = [init["handler"]]
    return _context(init, env)


def _context(init, env):
    base = {
        "memory_limit_in_mb": init.get("memory_mb") or 0,
        "time_limit_in_ms": init.get("timeout_ms") or 0,
        "request_id": "",
        "environment": weir_json.dumps(env).decode(),
        "environ": ";".join("%s=%s" % item for item in env.items()),
        "function_version": str(init.get("version", "")),
        "function_name": init.get("function", ""),
        "namespace": "default",
        "tencentcloud_region": "",
        "tencentcloud_appid": "",
        "tencentcloud_uin": "",
        "attempt": 1,
        "dry_run": False,
        "deadline_ms": 0,
        "headers": {},
        "source": None,
    }
    base.update(init.get("context") or {})
    return base


def load(handler):
    path, dot, name = handler.rpartition(".")
    if not dot or not path or not name:
        raise Refused("HandlerNotFound", 'the handler "%s" is not of the form file.function' % handler)
    module_name = path.replace("/", ".")
    relative = module_name.replace(".", os.sep)
    _expect_file(relative, path)
    return _checked(_import(module_name, relative), path, name)


def _expect_file(relative, path):
    if any(os.path.exists(relative + end) for end in (".py", os.sep + "__init__.py", ".pyc")) or _extension(relative):
        return
    folder = os.path.dirname(relative) or "."
    files = sorted(f for f in os.listdir(folder) if f.endswith(".py")) if os.path.isdir(folder) else None
    raise Refused("HandlerNotFound", "the code has no file %s.py%s" % (path, _there_are(files, "files")))


def _extension(relative):
    """A handler may be a compiled module: orders.cpython-311-x86_64-linux-gnu.so."""
    from _imp import extension_suffixes
    return any(os.path.exists(relative + suffix) for suffix in extension_suffixes())


def _import(module_name, relative):
    """A handler file may have the name of a module that the interpreter has loaded or built in (code.py is fine, time.py
    and io.py are not found by import); such a file is loaded by its path."""
    if module_name not in sys.modules and module_name not in sys.builtin_module_names:
        __import__(module_name)
        return sys.modules[module_name]
    from importlib import util
    spec = util.spec_from_file_location("handler_" + module_name, relative + ".py")
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _checked(module, path, name):
    function = getattr(module, name, None)
    if function is None:
        raise Refused("HandlerNotFound", "%s.py has no function %s%s" % (path, name, _there_are(_functions(module), "functions")))
    if not callable(function):
        raise Refused("HandlerNotFound", "%s.%s is not a function but of type %s" % (path, name, type(function).__name__))
    if getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x80:  # async def
        return _run_async(function)
    return function


def _functions(module):
    return [n for n, v in vars(module).items()
            if n[0] != "_" and callable(v) and not isinstance(v, type) and getattr(v, "__module__", None) == module.__name__]


def _there_are(names, what):
    if names is None:
        return ""
    return " (its %s: %s)" % (what, ", ".join(names[:20])) if names else " (it has no %s)" % what


def _run_async(function):
    from asyncio import run

    def run_handler(event, context):
        return run(function(event, context))

    return run_handler
