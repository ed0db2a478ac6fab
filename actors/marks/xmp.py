"""XMP: where a file holds it, and what it says.

In MP4 it is a box of its own on the outermost level (XMP specification part 3, 1.2.7.2). It is the last one: nothing
before it moves, so the index stays in front, and the places that it has of the pictures hold. Matroska has no place for
XMP; there, the same words are a tag (`matroska_tags`).
"""

from pathlib import Path
from uuid import UUID
from xml.sax.saxutils import quoteattr

from actors import __version__

_BOX_OF_XMP = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
_CREATOR = f"stillreel {__version__}"
_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}


def packet(source_type: str) -> bytes:
    """An XMP packet that says how the file came about (`actors.marks.source_types`) and which program made it.

    No times and no ids: the same clip has the same bytes.
    """
    namespaces = " ".join(f"xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in _NAMESPACES.items())
    says = {"rdf:about": "", "xmp:CreatorTool": _CREATOR, "Iptc4xmpExt:DigitalSourceType": source_type}
    attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in says.items())
    text = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'  # the same in every packet, by the specification
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {namespaces}>\n'
        f"<rdf:Description {attributes}/>\n"
        '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    )
    return text.encode()


def append_to_mp4(path: Path, source_type: str) -> None:
    """Add the packet to a whole MP4 file."""
    content = _BOX_OF_XMP.bytes + packet(source_type)
    with path.open("ab") as file:
        file.write((8 + len(content)).to_bytes(4, "big") + b"uuid" + content)


def matroska_tags(source_type: str) -> dict[str, str]:
    """The same for a Matroska file, as tags by name."""
    return {"DIGITAL_SOURCE_TYPE": source_type, "ENCODED_BY": _CREATOR}
