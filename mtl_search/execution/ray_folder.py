"""Ray's folder on this machine: where Ray's sockets lie below it, whose paths the system allows 107 bytes.

A long ``TMPDIR`` is reached through a short link, so that logs and spilled objects lie where the user wants them.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

from mtl_search.errors import StudyError

_LONGEST = 43
"""Bytes that are left for the folder by ``/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store``."""
_SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")


def ray_folder(places: Sequence[str] = _SHORT_PLACES) -> str:
    """The folder for Ray to start in: the one that it would take by itself, or a short link to it.

    Args:
        places: Folders in which a link may be made.

    Raises:
        StudyError: Ray's own folder has too long a path, and no link to it can be made.
    """
    usual: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    if len(os.fsencode(usual)) <= _LONGEST:
        return usual
    target = Path(usual).resolve()
    for place in places:
        with suppress(OSError):
            target.mkdir(parents=True, exist_ok=True)
            link = _linked(Path(place), target)
            if len(os.fsencode(link)) <= _LONGEST:
                return str(link)
    raise StudyError(
        f"the folder for temporary files is too long a path for Ray's sockets: {usual} has {len(os.fsencode(usual))} "
        f"bytes of at most {_LONGEST}; set TMPDIR, or RAY_TMPDIR alone, to a shorter one"
    )


def _linked(place: Path, target: Path) -> Path:
    """A link to a folder, in a folder of this user's alone.

    Raises:
        OSError: It cannot be made there, or somebody else has made the folder.
    """
    own = place / f"mtls-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise PermissionError(f"{own} belongs to somebody else")
    link = own / hashlib.sha256(os.fsencode(target)).hexdigest()[:8]
    with suppress(FileExistsError):
        link.symlink_to(target)
    return link
