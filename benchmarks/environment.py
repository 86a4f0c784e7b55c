"""Environments of their own for packages that this project does not depend on."""

import subprocess
import sys
import venv

from resrep_keras.common.files import write_text


def python(folder, packages):
    """The interpreter of an environment that has the packages; it is made once.

    Args:
        folder: A `pathlib.Path`, where it is made.
        packages: What `pip` installs.
    """
    done = folder / "packages.txt"
    made = str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([made, "-m", "pip", "install", "--quiet", *packages], check=True)
        write_text(done, "\n".join(packages) + "\n")
    return made
