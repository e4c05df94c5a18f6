"""The section on what is wrong with a run's images or texts, or might be."""

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.image_input import ImageInput
from keras_tl.reporting.album import Album, data_uri, pixels_of
from keras_tl.reporting.blocks import (
    Block,
    Cell,
    Details,
    Gallery,
    Passages,
    Picture,
    Section,
    Table,
    Text,
    row,
)
from keras_tl.reporting.facts import Facts
from keras_tl.reporting.texts import beside

# Findings that are shown as pictures or texts, sets of each at most, and sides in pixels.
GALLERIES = {
    "leak": "The same {noun} in more than one split",
    "near-leak": "Near-duplicates in more than one split",
    "two-labels": "The same {noun} under more than one label",
    "near-two-labels": "Near-duplicates under more than one label",
    "wrong-label": "Labels suspected to be wrong, the surest first",
}
SHOWN, SIDE = 8, 128
# So many sets of a finding are listed.
LISTED = 50


def audit(facts: Facts, album: Album) -> Section:
    """What the audit found, and what should be looked at, side by side.

    Args:
        facts: The run.
        album: Its images or texts.

    Returns:
        The section.
    """
    title = f"Audit of the {facts.nouns}"
    if facts.audit is None:
        why = f"The run has no audit.json: its {facts.nouns} were not looked through."
        return Section(title, (Text(why, "quiet"),))
    findings = facts.audit.findings
    looked = f"All {facts.nouns} were looked through."
    if not findings:
        return Section(title, (Text(f"{looked} Nothing was found."),))
    rows = [(Cell(f.severity), Cell(f.text)) for f in findings]
    blocks: list[Block] = [
        Text(f"{looked} Found: {facts.audit.found}."),
        Table(["severity", "finding"], rows, names=2),
        *_galleries(facts, album),
        *(_listed(finding, facts.noun) for finding in findings if finding.sets),
        Text("All of it is in audit.json.", "quiet"),
    ]
    return Section(title, tuple(blocks))


def _galleries(facts: Facts, album: Album) -> list[Block]:
    """The pictures or texts, and a line where some are gone."""
    chosen = [f for f in facts.audit.findings if f.kind in GALLERIES] if facts.audit else []
    ids = {name for finding in chosen for names in finding.sets[:SHOWN] for name in names[:2]}
    if not ids or facts.info is None:
        return []
    items, trouble = album.find(sorted(ids))
    blocks: list[Block] = [Text(trouble, "quiet")] if trouble else []
    seen = facts.info.image_input
    small = {name: _small(item, seen) for name, item in items.items()} if seen else {}
    for finding in chosen:
        shown = [pair for pair in _shown(finding) if all(name in items for name in pair[0])]
        left = min(len(finding.sets), LISTED) - len(shown)
        more = f" ({left:,} more are listed below)" if left > 0 else ""
        title = GALLERIES[finding.kind].format(noun=facts.noun) + more
        if shown and seen:
            blocks.append(Gallery(title, tuple(_picture(small, *pair) for pair in shown)))
        elif shown:
            blocks.append(Passages(title, tuple(beside(items, *pair) for pair in shown)))
    return blocks


def _shown(finding: Finding) -> list[tuple[tuple[str, ...], str]]:
    """One or two names of each of a finding's first sets, and what is known of it."""
    sets = zip(finding.sets[:SHOWN], finding.why, strict=False)
    return [(names[:2], why) for names, why in sets]


def _picture(small: dict[str, str], names: tuple[str, ...], why: str) -> Picture:
    other = small[names[1]] if len(names) > 1 else ""
    return Picture(small[names[0]], "", why, (" = ".join(names),), other)


def _small(item: object, image_input: ImageInput) -> str:
    import tensorflow as tf

    pixels = pixels_of(item, image_input)
    return data_uri(np.asarray(tf.image.resize(pixels, (SIDE, SIDE), antialias=True)))


def _listed(finding: Finding, noun: str) -> Details:
    rows = [
        row(finding.joint.join(names), why)
        for names, why in zip(finding.sets[:LISTED], finding.why, strict=False)
    ]
    left = len(finding.sets) - len(rows)
    caption = f"{left:,} more are in audit.json." if left else ""
    return Details(
        f"{finding.kind}: {len(finding.sets):,}",
        (Table([noun, "why"], rows, caption, names=2),),
    )
