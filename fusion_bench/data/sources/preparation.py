"""Preparation of an official TFDS set without TensorFlow.

A source brings the set's own builder with the steps replaced that need TensorFlow.
"""

import contextlib
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from fusion_bench.data.sources.tfds import FILE_FORMAT
from fusion_bench.errors import UserError

_ARCHIVE_TIMEOUT = 20  # seconds until a server that does not answer counts as out of reach


def prepare(builder_class: Any, data_dir: Path, otherwise: str = "") -> Path:
    """Downloads the only archive of a set, verifies its checksum, prepares `data_dir`/NAME/VERSION and returns that.

    Args:
      builder_class: TFDS's builder of the set.
      data_dir: the directory of all prepared sets.
      otherwise: other content of the directory that is right, for the message where there is no network.

    Raises:
      UserError: the archive cannot be downloaded or has another checksum, or `data_dir` cannot be written.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    name, version = builder_class.name, builder_class.VERSION
    ((url, archive),) = builder_class.url_infos.items()
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    # TFDS reports its progress on stdout, which belongs to results.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            builder = builder_class(data_dir=os.fspath(data_dir), file_format=FILE_FORMAT)
            print(f"{name} is not in {data_dir}; it is downloaded from {url} and prepared there")
            if not _is_downloaded(data_dir / "downloads", url, archive):
                _check_reachable(url)
            builder.download_and_prepare(download_config=config)
        except tfds.download.DownloadError as error:
            raise UserError(
                f"cannot download {url} ({error}); without a network, the data directory (or $TFDS_DATA_DIR) "
                f"must hold {name}/{version}, prepared as {FILE_FORMAT}{otherwise}"
            ) from error
        except NonMatchingChecksumError as error:
            where = f"{url}, in {data_dir / 'downloads'},"
            raise UserError(f"{where} has a wrong checksum; remove it and start again") from error
        except OSError as error:
            raise UserError(f"cannot prepare {name} in {data_dir}: {error}") from error
    return data_dir / name / str(version)


def _is_downloaded(downloads: Path, url: str, archive: Any) -> bool:
    """Returns whether the archive is there, under TFDS's name or, fetched by hand, its own."""
    from tensorflow_datasets.core.download.resource import get_dl_fname

    names = get_dl_fname(url, archive.checksum), f"manual/{archive.filename}"
    return any((downloads / name).exists() for name in names)


def _check_reachable(url: str) -> None:
    """Asks the server for the archive's header: TFDS itself would try again for minutes."""
    import tensorflow_datasets as tfds

    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_ARCHIVE_TIMEOUT).close()
    except OSError as error:  # which URLError and TimeoutError are
        raise tfds.download.DownloadError(getattr(error, "reason", error)) from error
