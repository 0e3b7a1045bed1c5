"""Takes the steps of a Containerfile without a container engine: the same root, built and run.

The base image is this machine's own root, with its Python at ``/usr/local`` as in the image that
the file names; every stage is a layer over it, in a folder. Steps run in the layer by chroot in a
mount namespace of their own. What is started has namespaces for mounts, processes and network, a
root that is read-only, and the user of the image. It needs root on Linux with overlay mounts.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

_TOOLS = ("unshare", "nsenter", "mount", "chroot", "setpriv", "ip")
_HOST_VARIABLES = re.compile(r"(PIP_.*|.*_proxy|.*_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE|HOME)")

_BASE = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "LD_LIBRARY_PATH": "/usr/local/lib",  # its Python was linked for another place
}

_MOUNT = """
set -eu
mount -t overlay overlay -o "$LAYERS" "$ROOT"
mount --bind "$PYTHON" "$ROOT/usr/local"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
"""

_BUILD = """
while [ "$1" != -- ]; do mkdir -p "$ROOT/$2"; mount --bind "$1" "$ROOT/$2"; shift 2; done; shift
exec chroot "$ROOT" "$@"
"""

_RUN = """
mount -o remount,ro "$ROOT"
mount -o remount,bind,ro "$ROOT/usr/local"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
while [ "$1" != -- ]; do mount --bind "$1" "$ROOT/$2"; shift 2; done; shift
ip link set lo up
exec chroot "$ROOT" /usr/bin/setpriv --reuid="${USER%:*}" --regid="${USER#*:}" --clear-groups \\
    --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""


@dataclass(frozen=True)
class Step:
    """One instruction, its flags and the rest of its line."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The words of the exec form, or those of a plain line."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)


def read_steps(path: Path) -> list[Step]:
    """The instructions of a file in their order."""
    text = re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    steps = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        flags = {}
        while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[found[1]] = found[2]
            rest = rest[found.end() :]
        steps.append(Step(name, flags, rest.strip()))
    return steps


@dataclass(frozen=True)
class Image:
    """A stage: the folder of its changes to the base, and what it says about running it."""

    changes: Path
    folder: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=lambda: dict(_BASE))
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"
    volumes: tuple[str, ...] = ()


class Builder:
    """Builds stages of a Containerfile into a folder.

    Parameters
    ----------
    path, context:
        The Containerfile, and the folder that it copies from.
    folder:
        Where the layers go.
    cache:
        What ``RUN --mount=type=cache`` stands for.
    """

    def __init__(self, path: Path, context: Path, folder: Path, cache: Path) -> None:
        self._steps = read_steps(path)
        self._context, self._folder, self._cache = context, folder, cache
        self._stages: dict[str, Image] = {}

    def build(self, target: str) -> Image:
        """The stage of this name, with the stages that it is made from."""
        if target in self._stages:
            return self._stages[target]
        starts = [n for n, step in enumerate(self._steps) if step.name == "FROM"]
        for start, end in zip(starts, [*starts[1:], len(self._steps)], strict=True):
            base, _, name = self._steps[start].text.partition(" AS ")
            if name == target:
                return self._built(target, base, self._steps[start + 1 : end])
        raise ValueError(f"the Containerfile has no stage {target}")

    def _built(self, target: str, base: str, steps: list[Step]) -> Image:
        named = any(step.text.endswith(f" AS {base}") for step in self._steps)
        changes = self._folder / target / "changes"
        changes.mkdir(parents=True)
        image = Image(changes)
        if named:
            below = self.build(base)
            # Copied: overlay mounts refuse layers that lie within another layer, here the root.
            subprocess.run(["cp", "--archive", f"{below.changes}/.", changes], check=True)
            image = replace(below, changes=changes)
        for step in steps:
            image = self._taken(image, step)
        self._stages[target] = image
        return image

    def _taken(self, image: Image, step: Step) -> Image:
        match step.name:
            case "RUN":
                self._run(image, step)
            case "COPY":
                self._copy(image, step)
            case "WORKDIR":
                (image.changes / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
                return replace(image, folder=step.text)
            case "ENV":
                name, _, value = step.text.partition("=")
                return replace(image, environment=image.environment | {name: value})
            case "USER":
                return replace(image, user=step.text)
            case "ENTRYPOINT":
                return replace(image, entrypoint=tuple(step.words))
            case "CMD":
                return replace(image, command=tuple(step.words))
            case "HEALTHCHECK":
                return replace(image, health=tuple(json.loads(step.text.removeprefix("CMD "))))
            case "STOPSIGNAL":
                return replace(image, stop_signal=step.text)
            case "VOLUME":
                return replace(image, volumes=(*image.volumes, step.text))
            case "EXPOSE":
                pass
            case other:
                raise ValueError(f"no step {other} is known here")
        return image

    def _copy(self, image: Image, step: Step) -> None:
        *sources, goal = step.words
        stage = step.flags.get("from")
        source = self._context if stage is None else self.build(stage).changes
        for name in sources:
            given, put = source / name.lstrip("/"), image.changes / goal.lstrip("/")
            if given.is_dir():
                shutil.copytree(
                    given,
                    put,
                    symlinks=True,
                    ignore=None if stage else _ignored,
                    dirs_exist_ok=True,
                )
            else:
                put = put / given.name if goal.endswith("/") else put
                put.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(given, put)

    def _run(self, image: Image, step: Step) -> None:
        mounts = []
        if cached := re.search(r"type=cache,target=(\S+)", step.flags.get("mount", "")):
            mounts = [str(self._cache), cached[1]]
        host = {name: text for name, text in os.environ.items() if _HOST_VARIABLES.fullmatch(name)}
        command = [*_environment(host | image.environment), "/bin/sh", "-ec", step.text]
        script = ("sh", "-c", _MOUNT + _BUILD, "sh", *mounts, "--", *_at(image, command))
        done = subprocess.run(
            ["unshare", "--mount", *script],
            env=_variables(image),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepError(
                f"RUN {step.text}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )


class StepError(Exception):
    """A step of the Containerfile failed."""


class Container:
    """A running image.

    Parameters
    ----------
    image:
        What to run.
    volumes:
        Folder of this machine by that of the image.
    variables:
        More environment.
    command:
        In the place of the image's own, after its entry point.
    """

    def __init__(
        self,
        image: Image,
        *,
        volumes: dict[Path, str],
        variables: dict[str, str],
        command: tuple[str, ...] = (),
    ) -> None:
        self._image, self._variables = image, image.environment | variables
        mounts = [text for host, inside in volumes.items() for text in (str(host), inside)]
        started = [*_environment(self._variables), *image.entrypoint, *(command or image.command)]
        self.process = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", _MOUNT + _RUN, "sh", *mounts, "--", *_at(image, started)),
            ],
            env=_variables(image),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its first process, as this machine numbers it; waits until there is one."""
        outer = self.process.pid
        children = Path(f"/proc/{outer}/task/{outer}/children")
        while self.process.poll() is None:
            if found := children.read_text():
                return int(found)
            time.sleep(0.01)
        raise StepError(f"it has ended: {self.process.communicate()[0]}")

    def execute(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One more command within, as the same user."""
        user, group = self._image.user.split(":")
        inside = [*_environment(self._variables | variables), *words]
        return subprocess.run(
            [
                *("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--root", "--wd"),
                *(f"--setuid={user}", f"--setgid={group}", *inside),
            ],
            capture_output=True,
            text=True,
            timeout=600.0,
            check=False,
        )


def missing_tool() -> str | None:
    """Why roots cannot be built and run on this machine, or None where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            return f"needs {tool}"
    layers = "lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w"
    probe = f"mount -t tmpfs t /tmp; cd /tmp; mkdir u w m; mount -t overlay o -o {layers} m"
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-ec", probe],
        capture_output=True,
        check=False,
    )
    return "needs overlay mounts and namespaces" if done.returncode else None


def _variables(image: Image) -> dict[str, str]:
    work, root = image.changes.parent / "work", image.changes.parent / "root"
    for each in (work, root):
        each.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "LAYERS": f"lowerdir=/,upperdir={image.changes},workdir={work}",
        "ROOT": str(root),
        "PYTHON": sys.base_prefix,
        "USER": image.user,
    }


def _environment(variables: dict[str, str]) -> list[str]:
    return ["/usr/bin/env", "-i", *(f"{name}={text}" for name, text in variables.items())]


def _at(image: Image, command: list[str]) -> list[str]:
    return ["/bin/sh", "-c", 'cd "$0" && exec "$@"', image.folder, *command]


def _ignored(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]
