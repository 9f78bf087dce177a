"""Checks that this machine can do what glip needs. Each check does the thing: it computes, writes, starts or opens it.

A check returns a `Finding`; it raises nothing, and ends after its time even if what it tries does not. Changes nothing:
what is written goes into temporary files.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from glip.errors import GlipError
from glip.weights.cache import Fetching, cache_home, folder_bytes, model_path, model_paths
from glip.weights.zoo import DEFAULT, EMBEDDED, WEIGHT_BYTES, ZOO

State = Literal["ok", "warn", "fail"]

_SIDE = 512  # of the matrices that are multiplied
_PROBE_BYTES = 256 << 20  # memory that is allocated and filled
_DISK_BYTES = 32 << 20  # file that is written and read back
_CONNECT_SECONDS = 5.0
_PING_SECONDS = 30.0
_FEW_GB = 3  # of free memory or disk: less is a warning
_PIP = "pip install --upgrade glip"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of the check.
        state: ok, warn (something optional is missing or slow) or fail.
        found: what was done and found.
        remedy: what to do; '' if there is nothing.
        seconds: that it took.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Check:
    """A check: its name, what it does, and the seconds after which it counts as failed."""

    name: str
    run: Callable[[], tuple[State, str, str]]
    seconds: float = 60.0


def examine(checks: tuple[Check, ...] | None = None) -> Iterator[Finding]:
    """Runs the checks one after the other and yields each result as it is known."""
    for check in CHECKS if checks is None else checks:
        yield _bounded(check)


def _bounded(check: Check) -> Finding:
    """Runs a check in a thread that is left behind if it does not end in time."""
    results: list[Finding] = []

    def work() -> None:
        try:
            results.append(Finding(check.name, *check.run()))
        except GlipError as error:
            results.append(Finding(check.name, "fail", str(error)))
        except Exception as error:  # noqa: BLE001  # whatever is broken is what a doctor reports
            results.append(Finding(check.name, "fail", f"{type(error).__name__}: {error}", f"Try `{_PIP}`."))

    start = time.monotonic()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(check.seconds)
    seconds = time.monotonic() - start
    if not results:
        return Finding(check.name, "fail", f"did not end within {check.seconds:g} seconds", "", seconds)
    return replace(results[0], seconds=seconds)


# Python and packages --------------------------------------------------------------------------------------------------


def _python() -> tuple[State, str, str]:
    from packaging.specifiers import SpecifierSet

    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    needed = metadata.metadata("glip")["Requires-Python"] or ""
    if not SpecifierSet(needed).contains(platform.python_version(), prereleases=True):
        return "fail", found, f"glip needs Python {needed}."
    return "ok", found, ""


def _packages() -> tuple[State, str, str]:
    """Compares the version of every package that glip needs."""
    from packaging.requirements import Requirement

    wrong, extras = [], set()
    known = map(Requirement, metadata.requires("glip") or ())
    needed = [one for one in known if one.marker is None or one.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} does not fit {requirement.specifier}")
    if wrong:
        return "fail", "; ".join(wrong), f"Run `{_PIP}`."
    for extra, module in (("captions", "textblob"), ("remote", "fsspec"), ("review", "fiftyone")):
        if importlib.util.find_spec(module) is None:
            extras.add(extra)
    found = f"glip {metadata.version('glip')}, its {len(needed)} requirements fit"
    if extras:
        names = ",".join(sorted(extras))
        return "ok", f"{found}; without the extras {names}", f"If wanted: pip install 'glip[{names}]'."
    return "ok", found, ""


# Computing ------------------------------------------------------------------------------------------------------------


def _torch() -> tuple[State, str, str]:
    """Multiplies matrices in float32 and compares with float64."""
    import torch

    error, seconds = _product_error(torch.device("cpu"), torch.float32)
    found = f"{torch.__version__}, {torch.get_num_threads()} threads; product of matrices in {1000 * seconds:.1f} ms"
    if error > 1e-5:
        return "fail", f"{found}, wrong by {error:.1e}", "Install torch again."
    return "ok", found, ""


def _gpu() -> tuple[State, str, str]:
    """Multiplies matrices on the GPU and compares with float64."""
    import torch

    if torch.cuda.is_available():
        device = torch.device("cuda")
        properties = torch.cuda.get_device_properties(device)
        error, seconds = _product_error(device, torch.float32)
        free = torch.cuda.mem_get_info(device)[0]
        found = (
            f"{properties.name}, {free / 1e9:.1f} of {properties.total_memory / 1e9:.1f} GB free, CUDA "
            f"{torch.version.cuda}, {_driver() or 'driver unknown'}; product in {1000 * seconds:.2f} ms"
        )
        if error > 1e-2:  # TF32 may be on
            return "fail", f"{found}, wrong by {error:.1e}", "The GPU computes wrongly; check its driver and memory."
        if free < _FEW_GB * 1e9:
            return "warn", found, "Other programs use the GPU's memory; use --device cpu, or a smaller --batch."
        return "ok", found, ""
    if torch.backends.mps.is_available():
        error, seconds = _product_error(torch.device("mps"), torch.float32)
        state: State = "ok" if error < 1e-2 else "fail"
        return state, f"Apple GPU (mps); product in {1000 * seconds:.2f} ms, error {error:.1e}", ""
    if driver := _driver():
        return (
            "warn",
            f"an NVIDIA GPU is here ({driver}), but this torch cannot use it (built for CUDA {torch.version.cuda})",
            "Install the torch that fits the driver: pytorch.org/get-started.",
        )
    return "ok", "none; glip runs on the CPU", ""


def _driver() -> str:
    """Returns the version of NVIDIA's driver; '' if there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    lines = done.stdout.split()
    return f"driver {lines[0]}" if done.returncode == 0 and lines else ""


def _bf16() -> tuple[State, str, str]:
    """Multiplies matrices in bfloat16, compares with float64, and compares the time with that of float32."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    error, seconds = _product_error(device, torch.bfloat16)
    plain_seconds = _product_error(device, torch.float32)[1]
    units = ", ".join(sorted(_cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"}))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU ({units or 'no unit for bf16'})"
    found = f"{where}: {plain_seconds / seconds:.1f} times the speed of fp32, error {error:.1e}"
    if error > 0.02:
        return "fail", found, "Do not use `--precision bf16` on this machine."
    if seconds > plain_seconds:
        return "ok", found, "Leave `--precision` at fp32: bf16 is slower here."
    return "ok", found, ""


def _product_error(device: Any, dtype: Any) -> tuple[float, float]:
    """Returns the largest error of a product, as a share of its largest value, and the seconds it takes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(_SIDE, _SIDE, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = (value.to(dtype).to(device) for value in (left, right))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        product = (a @ b).double().cpu()
        seconds.append(time.perf_counter() - start)
    expected = a.double().cpu() @ b.double().cpu()
    return float((product - expected).abs().max() / expected.abs().max()), min(seconds)


def _cpu_flags() -> set[str]:
    """Returns the instruction sets of this CPU, where Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    words = next((line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))), "")
    return set(words.split())


# Memory and disk ------------------------------------------------------------------------------------------------------


def _memory() -> tuple[State, str, str]:
    """Allocates and fills memory."""
    import numpy as np

    try:
        block = np.ones(_PROBE_BYTES, np.uint8)
        total = int(block[:: 1 << 12].sum())
    except MemoryError:
        return "fail", f"{_PROBE_BYTES >> 20} MB could not be allocated", "Close other programs, or raise the limit."
    found = f"{_PROBE_BYTES >> 20} MB allocated and filled ({total} pages)"
    free = _free_memory()
    if free is None:
        return "ok", found, ""
    found = f"{free / 1e9:.1f} GB free; {found}"
    needed = 2 * WEIGHT_BYTES["glip-t"]
    if free < needed:
        return "warn", found, f"GLIP-T needs about {needed / 1e9:.0f} GB; --model nano needs less than 1 GB."
    return "ok", found, ""


def _free_memory() -> int | None:
    """Returns the bytes that this process may still allocate, with the limit of its container; None if unknown."""
    known = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        known += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")
        known += [int(limit) - int(used)] if limit.isdigit() else []
    except (OSError, ValueError):
        pass
    return min(known, default=None)


def _disk() -> tuple[State, str, str]:
    """Writes a file into the cache, reads it back and deletes it."""
    home = cache_home()
    folder = next(path for path in (home, *home.parents) if path.is_dir())
    content = os.urandom(1 << 20) * (_DISK_BYTES >> 20)
    remedy = "Set GLIP_HOME to a folder that can be written and has space."
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            start = time.perf_counter()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            seconds = time.perf_counter() - start
            file.seek(0)
            is_same = file.read() == content
    except OSError as error:
        return "fail", f"{folder} cannot be written: {error.strerror or error}", remedy
    free = shutil.disk_usage(folder).free
    speed = _DISK_BYTES / 1e6 / seconds
    found = f"{free / 1e9:.1f} GB free for the cache {home} ({folder_bytes(home) / 1e9:.1f} GB); {speed:.0f} MB/s"
    if not is_same:
        return "fail", f"{found}; what was read is not what was written", "Check the disk."
    return ("warn", found, remedy) if free < _FEW_GB * 1e9 else ("ok", found, "")


# Models ---------------------------------------------------------------------------------------------------------------


def _embedded() -> tuple[State, str, str]:
    """Compares the files of the embedded model with their hashes, and labels an image with it."""
    from PIL import Image, ImageDraw

    from glip.detectors.spec import load_detector
    from glip.weights.checkpoint import verify

    again = "Install glip again."
    wrong = [problem for problems in verify(EMBEDDED).values() for problem in problems]
    if wrong:
        return "fail", f"the files of {EMBEDDED} are damaged: {wrong[0]}", again
    detector = load_detector(EMBEDDED, device="cpu", offline=True)
    image = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(image).ellipse((100, 60, 220, 180), "red")
    start = time.perf_counter()
    (found,) = detector.predict([image], "red circle")
    seconds = time.perf_counter() - start
    centers = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    if not len(centers) or abs(centers[0] - (160, 120)).max() > 10:
        return "fail", f"{EMBEDDED} does not find a red circle on a white page", again
    return "ok", f"{EMBEDDED}: files intact, a red circle found in {seconds:.1f} s", ""


def _checkpoints() -> tuple[State, str, str]:
    """Opens the models of the cache and compares every byte with the recorded hashes."""
    from glip.weights.checkpoint import verify
    from glip.weights.folder import load_model_folder

    broken = {}
    names = [path.name for path in model_paths()]
    for path in model_paths():
        try:
            load_model_folder(path)
            problems = [problem for found in verify(str(path)).values() for problem in found]
            if problems:
                broken[path.name] = problems[0]
        except GlipError as error:
            broken[path.name] = str(error)
    if broken:
        name, problem = next(iter(broken.items()))
        again = f"Run `glip models remove {name}`" + (f", then `glip models pull {name}`." if name in ZOO else ".")
        return "fail", f"{len(broken)} of {len(names)} damaged: {problem}", again
    if not model_path(DEFAULT).is_dir():
        here = f"intact: {', '.join(names)}; " if names else ""
        size = f"{WEIGHT_BYTES[ZOO[DEFAULT].architecture] / 1e9:.1f} GB"
        return "warn", f"{here}the default model {DEFAULT} is not here", f"`glip models pull {DEFAULT}` fetches {size}."
    return "ok", f"intact: {', '.join(names)}", ""


def _network() -> tuple[State, str, str]:
    """Connects to the hosts of the published checkpoints, unless downloads are switched off."""
    is_ready = model_path(DEFAULT).is_dir()
    offline = f"ready without a network: {EMBEDDED}" + (f" and {DEFAULT}" if is_ready else f"; {DEFAULT} is not here")
    remedy = "" if is_ready else f"`--model {EMBEDDED}` works now; for {DEFAULT}, copy {cache_home()} from elsewhere."
    if not Fetching().is_allowed:
        return "ok" if is_ready else "warn", f"downloads are switched off (HF_HUB_OFFLINE); {offline}", remedy
    hosts = dict.fromkeys(urlsplit(row.url).netloc for row in ZOO.values())
    silent = [host for host in hosts if not _answers(host)]
    if silent:
        return "ok" if is_ready else "warn", f"no answer from {', '.join(silent)}; {offline}", remedy
    return "ok", f"{', '.join(hosts)} answer; {offline}", ""


def _answers(host: str) -> bool:
    name, _, port = host.partition(":")
    try:
        with socket.create_connection((name, int(port or 443)), _CONNECT_SECONDS):
            return True
    except OSError:
        return False


# Review ---------------------------------------------------------------------------------------------------------------


def _fiftyone() -> tuple[State, str, str]:
    """Imports FiftyOne."""
    if importlib.util.find_spec("fiftyone") is None:
        return "warn", "not installed; only `glip review` needs it", "If wanted: pip install 'glip[review]'."
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    code = "import fiftyone; print(fiftyone.__version__)"
    # In a process of its own: its import takes seconds, and changes the settings of this one.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return "fail", f"its import fails: {last}", "pip install --force-reinstall fiftyone"
    return "ok", done.stdout.split()[-1], ""


def _mongodb() -> tuple[State, str, str]:
    """Starts the database of `glip review` on loopback, or asks the one of FIFTYONE_DATABASE_URI, and pings it."""
    from glip.review.database import GET_MONGODB

    if importlib.util.find_spec("pymongo") is None:
        return "warn", "not checked: pymongo is not installed", "If wanted: pip install 'glip[review]'."
    if uri := os.environ.get("FIFTYONE_DATABASE_URI"):
        return "ok", f"{_ping(uri)} at {uri.rpartition('@')[2]} answers", ""
    spec = importlib.util.find_spec("fiftyone")
    folders = [Path(place) / "db" / "bin" for place in (spec.submodule_search_locations or ())] if spec else []
    mongod = shutil.which("mongod", path=os.pathsep.join(map(str, folders))) or shutil.which("mongod")
    if mongod is None:
        return "warn", "no mongod; only `glip review` needs it", GET_MONGODB
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        words = [mongod, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            version = _ping(f"mongodb://127.0.0.1:{port}/")
        except Exception as error:  # noqa: BLE001  # any error of pymongo: the database does not work
            code = process.poll()
            why = f"it ended with {code}" if code is not None else type(error).__name__
            return "fail", f"{mongod} does not start: {why}", GET_MONGODB
        finally:
            process.kill()
            process.wait()
    return "ok", f"{version} starts and answers on loopback", ""


def _ping(uri: str) -> str:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=int(1000 * _PING_SECONDS)) as client:
        client.admin.command("ping")
        return f"MongoDB {client.server_info()['version']}"


CHECKS = (
    Check("Python", _python),
    Check("packages", _packages),
    Check("torch", _torch),
    Check("GPU", _gpu),
    Check("bf16", _bf16),
    Check("memory", _memory),
    Check("disk", _disk),
    Check("model", _embedded, 120),
    Check("checkpoints", _checkpoints, 600),
    Check("network", _network, 30),
    Check("FiftyOne", _fiftyone, 120),
    Check("MongoDB", _mongodb, 60),
)
