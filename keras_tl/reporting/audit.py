"""The section on what is wrong with a run's images, or might be."""

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.image_input import ImageInput
from keras_tl.reporting.album import Album, data_uri, pixels_of
from keras_tl.reporting.blocks import (
    Block,
    Cell,
    Details,
    Gallery,
    Picture,
    Section,
    Table,
    Text,
    row,
)
from keras_tl.reporting.facts import Facts

TITLE = "Audit of the images"
# The findings that are shown as pictures; so many of each; sides in pixels.
GALLERIES = {
    "leak": "The same image in more than one split",
    "near-leak": "Near-duplicates in more than one split",
    "two-labels": "The same image under more than one label",
    "near-two-labels": "Near-duplicates under more than one label",
    "wrong-label": "Labels suspected to be wrong, the surest first",
}
SHOWN, SIDE = 8, 128
# So many images of a finding are listed.
LISTED = 50


def audit(facts: Facts, album: Album) -> Section:
    """What the audit found, with pictures of what should be looked at.

    Args:
        facts: The run.
        album: Its images.

    Returns:
        The section.
    """
    if facts.audit is None:
        why = "The run has no audit.json: its images were not looked through."
        return Section(TITLE, (Text(why, "quiet"),))
    findings = facts.audit.findings
    if not findings:
        return Section(TITLE, (Text("All images were looked through. Nothing was found."),))
    rows = [(Cell(f.severity), Cell(f.text)) for f in findings]
    blocks: list[Block] = [
        Text(f"All images were looked through. Found: {facts.audit.found}."),
        Table(["severity", "finding"], rows, names=2),
        *_galleries(facts, album),
        *(_listed(finding) for finding in findings if finding.sets),
        Text("All of it is in audit.json.", "quiet"),
    ]
    return Section(TITLE, tuple(blocks))


def _galleries(facts: Facts, album: Album) -> list[Block]:
    """The pictures, and a line where some are gone."""
    chosen = [f for f in facts.audit.findings if f.kind in GALLERIES] if facts.audit else []
    ids = {name for finding in chosen for names in finding.sets[:SHOWN] for name in names[:2]}
    if not ids or facts.info is None:
        return []
    items, trouble = album.find(sorted(ids))
    small = {name: _small(item, facts.info.image_input) for name, item in items.items()}
    blocks: list[Block] = [Text(trouble, "quiet")] if trouble else []
    for finding in chosen:
        if shown := _pictures(finding, small):
            left = len(finding.sets) - len(shown)
            more = f" ({left:,} more are listed below)" if left else ""
            blocks.append(Gallery(f"{GALLERIES[finding.kind]}{more}", shown))
    return blocks


def _pictures(finding: Finding, small: dict[str, str]) -> tuple[Picture, ...]:
    """The first sets of a finding whose images are all there."""
    sets = zip(finding.sets[:SHOWN], finding.why, strict=False)
    return tuple(
        Picture(
            image=small[names[0]],
            heat="",
            title=why,
            lines=(" = ".join(names),),
            beside=small[names[1]] if len(names) > 1 else "",
        )
        for names, why in sets
        if all(name in small for name in names[:2])
    )


def _small(item: object, image_input: ImageInput) -> str:
    import tensorflow as tf

    pixels = pixels_of(item, image_input)
    return data_uri(np.asarray(tf.image.resize(pixels, (SIDE, SIDE), antialias=True)))


def _listed(finding: Finding) -> Details:
    rows = [
        row(" = ".join(names), why)
        for names, why in zip(finding.sets[:LISTED], finding.why, strict=False)
    ]
    left = len(finding.sets) - len(rows)
    caption = f"{left:,} more are in audit.json." if left else ""
    return Details(
        f"{finding.kind}: {len(finding.sets):,}",
        (Table(["image", "why"], rows, caption, names=2),),
    )
