"""Which image URIs of a manifest may be fetched.

A manifest is data, often somebody else's. It must not choose what this job reads with the rights of its machines: a
remote list of images has no business with files of the worker, with other buckets that the job's credentials open, nor
with the credentials that clouds serve on link-local addresses.

A manifest of this machine is the user's own: it names what it likes in the schemes that are allowed. One from
elsewhere is *foreign*: it names images in its own bucket or on its own host, in that of `columns.base`, and below
`storage.prefixes`. The output's bucket is none of its business. Where `storage.schemes` names http and https, it may
name all of the web, for which no credentials are needed.

Judged here is what the URI itself says. What a name resolves to is judged when it is connected to (`actors.web`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.addresses import host_of
from actors.storage import Storage
from actors.web import SCHEMES as WEB
from actors.web import WebAccess
from pipelines.manifest.places import LOCAL_SCHEME, is_below, place_of, scheme_of

# Twice the longest key of an object store, and what web servers commonly take; more is text in the wrong column.
MAX_CHARACTERS = 8192

# A `data:` URL; or JPEG, PNG, GIF or WebP in base64: paths have other characters, too, or an ending.
_IMAGE_ITSELF = re.compile(r"(?i:data:(?!//))|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{80,}\Z")
_MISSPELT = re.compile(r"[^/]*://")  # before any slash: what looks like a scheme and is none


@dataclass(frozen=True, slots=True)
class AllowedImages:
    """What the images of one source of the manifest may be.

    Attributes:
        schemes: in lower case; `file` stands for paths of this machine.
        places: of a foreign manifest, buckets, hosts and folders that its images may lie in; None of the user's own.
        own_hosts: of the web, of the manifest and of `columns.base`; whatever the port.
        prefixes: other places, whatever the scheme.
        are_schemes_given: by `storage.schemes`; then `file`, `http` and `https` open all that they reach.
        web: where its URLs may lead.
    """

    schemes: tuple[str, ...]
    places: tuple[str, ...] | None = None
    own_hosts: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    are_schemes_given: bool = False
    web: WebAccess = field(default_factory=WebAccess)

    @classmethod
    def beside(
        cls,
        sources: Sequence[str],
        output: str | None,
        schemes: Sequence[str] | None,
        *,
        base: str | None = None,
        prefixes: Sequence[str] = (),
        private_networks: bool = False,
    ) -> "AllowedImages":
        """Images of the manifest at `sources`; the others as in the configuration.

        Paths of this machine come only from a manifest (or a `columns.base`) of this machine: that the output is here
        gives a remote manifest no right to read here.
        """
        named = [*sources, *([] if base is None else [base])]
        own_hosts = frozenset(filter(None, map(host_of, named)))
        hosts = {*own_hosts, *filter(None, map(host_of, prefixes))}
        is_foreign = not all(map(Storage.is_local, sources))
        places = [place_of(source) for source in sources]
        if base is not None:
            places.append(Storage.absolute(base) if Storage.is_local(base) else place_of(base))
        found = [scheme_of(one) for one in named]
        if output is not None and scheme_of(output) != LOCAL_SCHEME:
            found.append(scheme_of(output))
        return cls(
            tuple(dict.fromkeys(found if schemes is None else schemes)),
            tuple(dict.fromkeys(places)) if is_foreign else None,
            own_hosts,
            tuple(prefixes),
            are_schemes_given=schemes is not None,
            web=WebAccess(tuple(sorted(hosts)), private_networks),
        )

    def why_not(self, uri: str, base: str) -> str | None:
        """What an image's URI would have to be, where it may not be fetched as it is; else None.

        Args:
            uri: as it stands in the manifest.
            base: folder that relative URIs start from.
        """
        if reason := _why_no_uri(uri):
            return reason
        own_scheme = Storage.scheme(uri)
        is_relative = not own_scheme and not uri.startswith("/")
        if is_relative and _MISSPELT.match(uri):
            return "an image's URI must be a path, or begin with its scheme"
        scheme = scheme_of(base) if is_relative else own_scheme or LOCAL_SCHEME
        whole = Storage.join(base, uri) if is_relative else uri
        if reason := self._why_not_there(whole, scheme, relative_to=base if is_relative else None):
            return reason
        if scheme in WEB:
            return None if is_relative else self._why_not_host(uri)
        if scheme != LOCAL_SCHEME and "::" in uri:  # fsspec would take each of its parts for a URI of its own
            return "an image's URI must not hold ::"
        return None

    def _why_not_there(self, whole: str, scheme: str, relative_to: str | None) -> str | None:  # noqa: PLR0911 - the same
        """By its place."""
        if self.prefixes and any(is_below(whole, prefix) for prefix in self.prefixes):
            return None
        if scheme not in self.schemes:
            known = " or ".join("a path of this machine" if s == LOCAL_SCHEME else f"{s}://" for s in self.schemes)
            return f"an image's URI must be {known} (storage.schemes can allow others)"
        if relative_to is not None and scheme != LOCAL_SCHEME and _climbs_out(whole, relative_to):
            return "a relative URI must stay within the bucket or host of the manifest"
        if self.places is None or (self.are_schemes_given and scheme in (*WEB, LOCAL_SCHEME)):
            return None
        if scheme in WEB and host_of(whole) in self.own_hosts:
            return None
        if not any(is_below(whole, place) for place in self.places):
            return (
                f"an image's URI must lie in {' or '.join(self.places)}, because the manifest is not of this machine "
                "(storage.prefixes can allow other places)"
            )
        return None

    def _why_not_host(self, url: str) -> str | None:
        host = host_of(url)
        if host is None:
            return "an image's URL must have a host that can be read in one way only"
        reason = self.web.why_not(host)
        return reason and f"an image's URL must {reason}"


def _why_no_uri(uri: str) -> str | None:
    if _IMAGE_ITSELF.match(uri):
        return (
            "an image's URI must not be the image itself in base64: write its bytes into a binary column of a Parquet "
            "file, or into a file of its own"
        )
    if len(uri) > MAX_CHARACTERS:
        return f"an image's URI must have at most {MAX_CHARACTERS} characters"
    return None


def _climbs_out(whole: str, base: str) -> bool:
    """Whether a relative URI that has become `whole` has left the bucket or host of `base`."""
    return not is_below(whole, place_of(base))
