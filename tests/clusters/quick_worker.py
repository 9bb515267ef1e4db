"""Stands in for Ray's setup_worker.py: python quick_worker.py SETUP_WORKER DEFAULT_WORKER OPTION...

That one loads Ray, which takes 0.4 s of CPU, to set the variables of a job's environment, and becomes
default_worker.py, which loads Ray again. This one sets them without. What a job asks for beyond variables is left to
the real one.
"""

import json
import os
import sys

CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="

if __name__ == "__main__":
    setup_worker, *words = sys.argv[1:]
    options = [word for word in words if not word.startswith((CONTEXT, LANGUAGE))]
    (written,) = [word.removeprefix(CONTEXT) for word in words if word.startswith(CONTEXT)] or ["{}"]
    context = json.loads(written or "{}")
    variables, python = context.pop("env_vars", {}), context.pop("py_executable", sys.executable)
    is_python = f"{LANGUAGE}PYTHON" in words
    if not is_python or any(context.values()) or any("$" in value for value in variables.values()):
        os.execv(sys.executable, [sys.executable, setup_worker, *words])
    os.environ.update(variables)
    os.execvp(python, [python, *options])
