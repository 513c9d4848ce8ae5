"""What the video decoder's process must be started with: FFmpeg takes its limits from the environment alone."""

from __future__ import annotations

from typing import Final

_OPTIONS: Final = {
    # A playlist dressed as a video opens nothing else.
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,webm,avi,mpegts",
    # A trim mark hides frames that the file's own count includes: the drive is every frame that was recorded.
    "ignore_editlist": "1",
}
DECODER_ENVIRONMENT: Final = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "|".join(f"{name};{value}" for name, value in _OPTIONS.items()),
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
}
