"""With this folder on PYTHONPATH, each process notes every image that it computes, in the file $COMPUTED."""

import hashlib
import os
import sys
from importlib.machinery import PathFinder

MODULE, FUNCTION = "onnxplain.runtime.target_parts", "run_in_parts"


class Finder:
    """Has the function note the images before it runs, all of a run in one write."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_wrap(module):
            execute(module)
            run = getattr(module, FUNCTION)

            def counted(artifact, images, *rest):
                digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
                with open(os.environ["COMPUTED"], "ab", buffering=0) as file:  # noqa: PTH123
                    file.write("".join(f"{digest}\n" for digest in digests).encode())
                return run(artifact, images, *rest)

            setattr(module, FUNCTION, counted)

        spec.loader.exec_module = execute_and_wrap
        return spec


if "COMPUTED" in os.environ:
    sys.meta_path.insert(0, Finder)
