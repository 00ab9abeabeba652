# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The code that a job runs: one state of the clone, named by git's hash of its files, whatever changes afterwards.

Changes to tracked files that are not committed are shipped too, and kept as a patch; files that git does not track are
not shipped, since secrets and data are among them. Nothing in the clone, its index included, is touched.
"""

import dataclasses
import os
import subprocess
import tempfile
from pathlib import Path

from lmx.errors import LmxError

CLONE = Path(__file__).resolve().parent.parent.parent
CODE_DIR, PATCH_FILE, ARCHIVE = "code", "uncommitted.patch", "code.tar.gz"


@dataclasses.dataclass(frozen=True)
class ShippedCode:
  """The code of a job.

  Attributes:
    commit: git's hash of the last commit.
    tree: git's hash of the files that are shipped; that of the commit where nothing was changed.
    changed: tracked files that differ from the commit, and are shipped as they are.
    untracked: files that are neither ignored nor tracked, and not shipped.
    clone: the folder of the clone.
  """

  commit: str
  tree: str
  changed: tuple[str, ...]
  untracked: tuple[str, ...]
  clone: Path

  @property
  def summary(self) -> str:
    """One line for a terminal."""
    changes = f" with {len(self.changed)} changed files ({PATCH_FILE})" if self.changed else ""
    left = f"; {len(self.untracked)} untracked files are not shipped" if self.untracked else ""
    return f"commit {self.commit[:12]}{changes}{left}"

  def has(self, path: str) -> bool:
    """Whether a file is shipped; `path` is relative to the clone."""
    return bool(_git(self.clone, "ls-tree", "--name-only", self.tree, "--", path))

  def write_code(self, folder: Path) -> None:
    """Replaces `folder/code` by the shipped files, and writes the patch of what was not committed."""
    code = folder / CODE_DIR
    _remove(code)
    code.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", self.tree], cwd=self.clone, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(code)], input=archive, check=True)
    self._write_patch(folder)

  def write_archive(self, folder: Path) -> None:
    """Writes the shipped files as `folder/code.tar.gz`, and the patch of what was not committed."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
      ["git", "archive", "--format=tar.gz", f"--output={folder / ARCHIVE}", self.tree], cwd=self.clone, check=True
    )
    self._write_patch(folder)

  def _write_patch(self, folder: Path) -> None:
    patch = folder / PATCH_FILE
    patch.unlink(missing_ok=True)
    if self.changed:
      patch.write_text(_git(self.clone, "diff", "--binary", self.commit, self.tree) + "\n", encoding="utf-8")


def read_source(clone: Path = CLONE) -> ShippedCode:
  """The state of a clone now.

  Raises:
    LmxError: it is no clone of git's, or git is missing.
  """
  try:
    commit = _git(clone, "rev-parse", "HEAD")
  except (OSError, subprocess.CalledProcessError) as error:
    raise LmxError(
      f"lmx launch ships a commit of lmx, and {clone} is no git clone with one. Fix: clone lmx with git, "
      "and install it from there with pip install -e ."
    ) from error
  changed = _git(clone, "diff", "--name-only", "HEAD").splitlines()
  untracked = _git(clone, "ls-files", "--others", "--exclude-standard").splitlines()
  return ShippedCode(commit, _tree(clone, commit, bool(changed)), tuple(changed), tuple(untracked), clone)


def _tree(clone: Path, commit: str, dirty: bool) -> str:
  """git's hash of all tracked files as they are now, by an index of its own."""
  if not dirty:
    return _git(clone, "rev-parse", f"{commit}^{{tree}}")
  with tempfile.TemporaryDirectory() as folder:
    index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
    _git(clone, "read-tree", commit, **index)
    staged = _git(clone, "diff", "--cached", "--name-only", "--diff-filter=A", commit).splitlines()
    if staged:  # Added to the clone's own index, and not yet committed.
      _git(clone, "add", "--force", "--", *staged, **index)
    _git(clone, "add", "--update", **index)
    return _git(clone, "write-tree", **index)


def _git(clone: Path, *words: str, **environment: str) -> str:
  done = subprocess.run(
    ["git", *words], cwd=clone, env=os.environ | environment, capture_output=True, text=True, check=True
  )
  return done.stdout.rstrip("\n")


def _remove(folder: Path) -> None:
  """Deletes a folder of code, in one step for whoever looks at its name."""
  if folder.exists():
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".old-") as old:
      folder.rename(Path(old) / folder.name)
