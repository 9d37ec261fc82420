"""`hil lab reference`: every key of a lab file and of an orbit file."""

from __future__ import annotations

import click

from hil.cli.output import JSON_OPTION, print_json

INTRODUCTION = """\
<!-- Made from the models by `hil lab reference`. Do not edit: change the models, then run
     `hil lab reference > docs/lab-reference.md`. -->
# Lab file and orbit file: every key

A lab file says what exists: spacecraft, boards, links. An orbit file says where spacecraft fly. Both are YAML, and read
strictly:

- A key that is not listed here is an error, with file, line and what was probably meant.
- A key without a default may be left out, unless it says **required**.
- Units are in the names of the keys: `delay_us`, `rate_bps`. Numbers are written plainly: 2500000000, not 2.5G.
- Text is not a number and a number is not text: a serial number goes in quotes.
- Passwords are never in a file: `env:NAME` or `file:/absolute/path`.

```sh
hil lab validate lab/*.yaml                             # checks; names file, line, key, and what is allowed
hil lab show lab/virtual.yaml                           # what it describes, with addresses
hil lab reference --format lab-schema > lab.schema.json # for editors that complete YAML from a JSON schema
```

An editor with a YAML language server completes and checks a lab file that begins with
`# yaml-language-server: $schema=lab.schema.json`.

The examples are checked by the unit tests. How boards are wired: [wiring](wiring.md). What the power sections do:
[power](power.md). What the orbit's numbers mean, and their sources: [orbits](orbits.md).
"""


def document() -> str:
    """Return the whole of docs/lab-reference.md."""
    from hil.lab.model import Lab
    from hil.lab.reference import examples, markdown, sections
    from hil.orbit.model import OrbitFile

    lab = sections(Lab, "Lab file", examples("lab"))
    orbit = sections(OrbitFile, "Orbit file", examples("orbit"), lab)
    return "\n".join([INTRODUCTION, markdown(lab), markdown(orbit)])


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "lab-schema", "orbit-schema"]),
    default="md",
    show_default=True,
    help="md: Markdown for people; the others: a JSON schema for editors (--json: lab-schema).",
)
@JSON_OPTION
def reference(form: str, as_json: bool) -> None:
    """Print every key of a lab file and of an orbit file: type, unit, default, bounds, meaning, examples."""
    if as_json and form == "md":
        form = "lab-schema"
    if form == "md":
        click.echo(document(), nl=False)
    elif form == "lab-schema":
        from hil.lab.model import Lab

        print_json(Lab.model_json_schema())
    else:
        from hil.orbit.model import OrbitFile

        print_json(OrbitFile.model_json_schema())
