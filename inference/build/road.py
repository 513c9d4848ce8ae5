"""What the evaluation set road says of itself, and by which rules it judges."""

from __future__ import annotations

from typing import Final

from inference.build.evaluation_card import About

ROAD: Final = About(
    name="road",
    version="1.0",
    method=(
        "Boxes were read off rulers on enlargements of the decoded JPEG, one by one. Each frame was looked at again "
        "with its boxes drawn, and once more after its last change. Proposals of the fp32 parent of drive-detect "
        "pointed at places to look at; no coordinate of theirs was copied.",
        "A box is tight around the visible part, down to the tyres and without the shadow: within 2 px below 60 px, "
        "3 % of a side above.",
        "An object counts when its visible part is 14 px or more in width and height and it is at most about half "
        "hidden; at the picture's border when a third or more of its width is in the picture.",
        "Ignored: what is smaller, more hidden, of a class that can't be told (open-bed pickups, a panel van), or not "
        "to be told from its neighbour; distant traffic as one region; and what is beyond a barrier on the other "
        "carriageway, but for twelve cars of clip b that are plainly seen there.",
        "Saloons, estates, minivans and off-roaders are cars. Signs, billboards and posts are nothing.",
        "Frames of clip b are none that drive-detect was calibrated on, nor within 2 frames of one.",
    ),
    limits=(
        "Cars only: it says nothing of any other class, and doesn't count false objects of other classes.",
        "Two sunny drives on wide roads with one make of camera: no night, rain, snow, town or crossing.",
        "The 212 boxes are some 25 vehicles seen again and again; the frames aren't independent, which is why blocks "
        "of neighbours are drawn together, and the interval is likely too narrow all the same.",
        "The annotator was a language model that looks at pictures; no person gave a second opinion. Errors of 1 px, "
        "up to 2 px on dark cars before dark ground.",
        "The proposals came from a relative of the models that are judged: what neither it nor the eye saw isn't here.",
        "drive-detect was calibrated on other frames of clip b, and its fidelity is told over clip a.",
        "A loose box around a vehicle in a small ignored region can lie half outside it and then counts as false.",
    ),
    licence=(
        "Frames: MIT, Udacity, Inc.; each clip's source has its notice. Scaled, and encoded anew as JPEG.",
        "Labels: Apache-2.0, the Outrider authors.",
    ),
    match_iou=0.5,
    min_objects=30,
    margin=0.03,
    cpu_ratio_at_most=2.5,
)
