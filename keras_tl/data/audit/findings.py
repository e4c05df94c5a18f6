"""What an audit says, for people, for pages and for programs."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from keras_tl.data.labels import first_few
from keras_tl.errors import AuditError, InputError
from keras_tl.files import atomic_write_text

SCHEMA_VERSION = 1
# From bad to good: makes figures wrong; should be looked at; good to know.
SEVERITIES = ("serious", "warning", "note")
# Exit code of a strict command that found something serious.
SERIOUS_EXIT_CODE = 3
SHOWN_SETS, SHOWN_IDS = 3, 4
# Kinds whose sets are items that have something in common, and are not alike.
SHARING = ("giveaways", "boilerplate", "languages")
# Most findings named in a log.
LOGGED = 5

log = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or might be, and where.

    Attributes:
        kind: A short name that does not change ("leak", "blurred").
        severity: One of `SEVERITIES`.
        text: What it is and what it means, in a sentence.
        sets: The ids of the items: one set for each time it occurs, of one or more items.
        why: What is known of each set.
    """

    kind: str
    severity: str
    text: str
    sets: tuple[tuple[str, ...], ...] = ()
    why: tuple[str, ...] = ()

    @property
    def brief(self) -> str:
        """The finding in one line, with its first occurrence."""
        where = f" {self._first}" if self.sets else ""
        return f"{self.severity}: {self.text}{where}"

    @property
    def reason(self) -> str:
        """The finding as part of a sentence, with its first occurrence and what is known of it."""
        text = self.text.rstrip(".")
        if not self.sets:
            return text
        known = f" ({self.why[0]})" if self.why[0] else ""
        return f"{text}, {first_few(self.sets[0], SHOWN_IDS)}{known}{self._more}"

    @property
    def joint(self) -> str:
        """What stands between the items of a set: most are alike, some only share a phrase."""
        return ", " if self.kind in SHARING else " = "

    @property
    def _first(self) -> str:
        """The items of its first set, as a sentence."""
        names = self.joint.join(self.sets[0][:SHOWN_IDS])
        rest = len(self.sets[0]) - SHOWN_IDS
        names += f" and {rest} more" if rest > 0 else ""
        return f"{'The first' if len(self.sets) > 1 else 'Namely'}: {names}."

    @property
    def _more(self) -> str:
        """How many more times it occurs."""
        return f" and {len(self.sets) - 1:,} more" if len(self.sets) > 1 else ""

    @property
    def html(self) -> str:
        """The finding as two cells of a table; its occurrences open on a click."""
        cells = f"<td><b>{escape(self.severity)}</b><td style='text-align:left'>"
        if not self.sets:
            return cells + escape(self.text)
        lines = "<br>".join(escape(line) for line in str(self).splitlines()[1:])
        return f"{cells}<details><summary>{escape(self.text)}</summary>{lines}</details>"

    def __str__(self) -> str:
        shown = [
            f"    {first_few(ids, SHOWN_IDS)}" + (f"  ({why})" if why else "")
            for ids, why in zip(self.sets[:SHOWN_SETS], self.why, strict=False)
        ]
        if len(self.sets) > len(shown):
            shown.append(f"    and {len(self.sets) - len(shown):,} more")
        return "\n".join([f"{self.severity:<8} {self.text}", *shown])


@dataclass(frozen=True)
class Audit:
    """All that was found in a data set.

    Attributes:
        images: How many items each split has; "" counts those without a split.
        classes: How many items each class has; empty for a regression.
        findings: The worst first.
        noun: What an item is, "image" or "text".
    """

    images: dict[str, int]
    classes: dict[str, int]
    findings: tuple[Finding, ...]
    noun: str = "image"

    @property
    def serious(self) -> tuple[Finding, ...]:
        """The findings that make figures wrong."""
        return tuple(finding for finding in self.findings if finding.severity == SEVERITIES[0])

    def with_findings(self, more: Sequence[Finding]) -> "Audit":
        """The same audit with further findings."""
        return replace(self, findings=in_order((*self.findings, *more)))

    def exit_code(self, strict: bool) -> int:
        """A command's exit code: 3 if it is strict and something serious was found."""
        return SERIOUS_EXIT_CODE if strict and self.serious else 0

    def refuse_serious(self) -> None:
        """Refuses data with serious findings.

        Raises:
            AuditError: There are some.
        """
        if self.serious:
            raise AuditError(
                "data without serious findings, with --strict",
                "; ".join(finding.reason for finding in self.serious),
                "Mend the data, or leave --strict out.",
            )

    def facts(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "noun": self.noun,
            "images": self.images,
            "classes": self.classes,
            "serious": len(self.serious),
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "text": finding.text,
                    "count": len(finding.sets),
                    "sets": [
                        {"ids": list(ids), "why": why}
                        for ids, why in zip(finding.sets, finding.why, strict=True)
                    ],
                }
                for finding in self.findings
            ],
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes `facts` as JSON, whole or not at all."""
        text = json.dumps(self.facts(), indent=2, ensure_ascii=False)
        # File names may hold what UTF-8 cannot encode.
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        atomic_write_text(os.fspath(path), text + "\n")

    @property
    def found(self) -> str:
        """How much was found of each severity, in a few words."""
        counts = {s: sum(f.severity == s for f in self.findings) for s in SEVERITIES}
        told = [
            f"{n} {s}{'s' if n > 1 and s != SEVERITIES[0] else ''}" for s, n in counts.items() if n
        ]
        return ", ".join(told) or "nothing"

    def log(self) -> None:
        """Logs in a few lines what was found, without what is merely good to know."""
        # Inspection has already reported what cannot be read.
        told = [finding for finding in self.findings if finding.kind != "unreadable"]
        among = ", among them what cannot be read" if len(told) < len(self.findings) else ""
        log.info("The audit found %s%s.", self.found, among)
        named = [finding for finding in told if finding.severity != SEVERITIES[-1]]
        for finding in named[:LOGGED]:
            is_serious = finding.severity == SEVERITIES[0]
            log.log(logging.WARNING if is_serious else logging.INFO, "  %s", finding.brief)
        if len(named) > LOGGED:
            log.info("  and %d more", len(named) - LOGGED)

    def __str__(self) -> str:
        total = sum(self.images.values())
        told = ", ".join(f"{count:,} {name}" for name, count in self.images.items() if name)
        head = f"{total:,} {self.noun}s" + (f": {told}" if told else "")
        if self.classes:
            head += f"; {len(self.classes):,} class{'' if len(self.classes) == 1 else 'es'}"
        if not self.findings:
            return f"{head}.\nNothing was found."
        return "\n".join([f"{head}.", *map(str, self.findings), f"Found: {self.found}."])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        head, *_ = str(self).splitlines()
        rows = "".join(f"<tr>{finding.html}</tr>" for finding in self.findings)
        return (
            f"<div><b>{escape(head)}</b><br><small>Found: {self.found}.</small>"
            f"<table>{rows}</table></div>"
        )


def read_audit(path: str | os.PathLike[str]) -> Audit:
    """Reads what `Audit.write` wrote.

    Raises:
        InputError: It is not such a file, or of another version.
    """
    with open(path, encoding="utf-8") as file:
        try:
            facts = json.load(file)
        except ValueError as error:
            raise InputError("an audit's JSON", str(path), "Make it again.") from error
    if not isinstance(facts, dict) or facts.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"an audit of version {SCHEMA_VERSION}", str(path), "Make it again.")
    findings = tuple(
        Finding(
            row["kind"],
            row["severity"],
            row["text"],
            tuple(tuple(entry["ids"]) for entry in row["sets"]),
            tuple(entry["why"] for entry in row["sets"]),
        )
        for row in facts["findings"]
    )
    if unknown := {finding.severity for finding in findings} - set(SEVERITIES):
        expected = f"severities {', '.join(SEVERITIES)} in {str(path)!r}"
        raise InputError(expected, first_few(sorted(map(str, unknown))), "Make it again.")
    return Audit(facts["images"], facts["classes"], findings, facts.get("noun", "image"))


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sorts the worst first; equals keep their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
