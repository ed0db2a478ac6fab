"""Which image URIs may be fetched: one table, and what the defaults are."""

import pytest

from pipelines.manifest.image_uris import MAX_CHARACTERS, AllowedImages

SCHEME = "(storage.schemes can allow others)"
MISSPELT = "a path, or begin with its scheme"
CHAINED = "must not hold ::"
MACHINE = "another machine than this one"
PRIVATE = "must not lead into a private network (storage.private_networks=true allows it)"
FOREIGN = "because the manifest is not of this machine (storage.prefixes can allow other places)"
HOST = "can be read in one way only"
OUTSIDE = "within the bucket or host of the manifest"
LENGTH = f"at most {MAX_CHARACTERS} characters"

REMOTE = AllowedImages.beside(["s3://lists/in/m.csv"], "/data/out", None)
LOCAL = AllowedImages.beside(["/lists/m.csv"], "s3://out", None)
WEB = AllowedImages.beside(["https://lists.org/in/m.csv"], None, ["https", "http"])
OF_SEVERAL = AllowedImages.beside(
    ["s3://lists/in/m.csv"],
    "s3://out",
    None,
    prefixes=["s3://photos/2026", "https://cdn.example.com/pub/", "https://10.0.0.7:8443", "/data/images", "gs://"],
)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("a.jpg", None),
        ("../a.jpg", None),
        ("x/../../a b%20#?.jpg", None),
        ("s3://lists/a\n.jpg", None),
        ("S3://lists/a.jpg", None),
        ("s3a://lists/a.jpg", SCHEME),
        ("s3://lists/" + "ö" * 1024, None),
        ("s3://lists/a%2Fb?x#y.jpg", None),
        ("s3://lists", None),
        ("s3://other/a.jpg", FOREIGN),
        ("s3://out/a.jpg", FOREIGN),  # the output's bucket is none of a stranger's business
        ("s3://Lists/a.jpg", FOREIGN),
        ("s3://lists2/a.jpg", FOREIGN),
        ("s3://lists@other/a.jpg", FOREIGN),
        ("s3:///other/a.jpg", FOREIGN),
        ("s3:////lists/a.jpg", FOREIGN),
        ("s3://lists/../other/a.jpg", FOREIGN),
        ("s3://lists/x/%2e%2e/a.jpg", FOREIGN),
        ("s3://lists/x\\..\\a.jpg", FOREIGN),
        ("s3://li%73ts/a.jpg", FOREIGN),
        ("file:/etc/passwd", None),  # an object of this odd name
        ("~/.ssh/id_rsa", None),  # the same
        ("s3://other/" + "x" * MAX_CHARACTERS, LENGTH),
        ("../../x", OUTSIDE),
        ("a/../../../etc/passwd", OUTSIDE),
        ("..", None),
        ("/etc/passwd", SCHEME),
        ("//etc/passwd", SCHEME),
        ("file:///etc/passwd", SCHEME),
        ("FILE:///etc/passwd", SCHEME),
        ("file://localhost/etc/passwd", SCHEME),
        ("local:///etc/passwd", SCHEME),
        ("https://host/a.jpg", SCHEME),
        ("http://169.254.169.254/latest/meta-data/", SCHEME),
        ("gs://bucket/a.jpg", SCHEME),
        ("memory://a", SCHEME),
        ("github://owner:repo@main/a.jpg", SCHEME),
        ("reference://a", SCHEME),
        ("data://a", SCHEME),
        ("zip://*::s3://bucket/a.zip", SCHEME),
        ("simplecache::file:///etc/passwd", MISSPELT),
        ("filecache::s3://bucket/a.jpg", MISSPELT),
        (" s3://bucket/a.jpg", MISSPELT),
        ("\ts3://bucket/a.jpg", MISSPELT),
        ("\nfile:///etc/passwd", MISSPELT),
        ("\0file:///etc/passwd", MISSPELT),
        ("\ufefffile:///etc/passwd", MISSPELT),
        ("s\n3://bucket/a.jpg", MISSPELT),
        ("s3://lists/x::file://y", CHAINED),
        ("s3://x::file://y", FOREIGN),
        ("dir::s3", CHAINED),
        ("a.jpg::/etc/passwd", CHAINED),
        ("a.zip::file", CHAINED),
    ],
)
def test_images_of_a_manifest_on_s3(uri: str, words: str | None) -> None:
    reason = REMOTE.why_not(uri, "s3://lists/in")
    assert (reason is None) if words is None else (reason is not None and words in reason), reason


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("a.jpg", None),
        ("a::b.jpg", None),
        ("../../../etc/passwd", None),
        ("/images/a.jpg", None),
        ("file:///images/a.jpg", None),
        ("s3://bucket/a.jpg", None),
        ("s3://out/../a.jpg", None),
        ("https://host/a.jpg", SCHEME),
        ("local:///images/a.jpg", SCHEME),
        ("simplecache::file:///images/a.jpg", MISSPELT),
    ],
)
def test_images_of_a_manifest_of_this_machine(uri: str, words: str | None) -> None:
    reason = LOCAL.why_not(uri, "/lists")
    assert (reason is None) if words is None else (reason is not None and words in reason), reason


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("cdn.example.com", None),
        ("user:secret@cdn.example.com:8443", None),
        ("my_bucket.example.com", None),
        ("пример.рф", None),
        ("93.184.216.34", None),
        *((address, PRIVATE) for address in ("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1")),
        *((address, None) for address in ("172.32.0.1", "11.0.0.1", "100.128.0.1", "192.169.0.1")),
        *((address, PRIVATE) for address in ("198.18.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "240.0.0.1")),
        ("0xa.1", PRIVATE),
        ("0300.0250.1.1", PRIVATE),
        ("[2606:2800::1]", None),
        ("[::2606:2800]", None),  # 38.6.40.0
        ("[64:ff9b::5db8:d822]", None),  # 93.184.216.34, as a network without IPv4 has it
        ("[2002:5db8:d822::1]", None),
        ("[fc00::1]", PRIVATE),
        ("[fd12:3456::1]", PRIVATE),
        ("[FEC0::1]", PRIVATE),
        ("[2001:db8::1]", PRIVATE),
        ("[ff02::1]", PRIVATE),
        ("[::ffff:10.0.0.1]", PRIVATE),
        ("[::ffff:0:10.0.0.1]", PRIVATE),
        ("[::10.0.0.1]", PRIVATE),
        ("[64:ff9b::10.0.0.1]", PRIVATE),
        ("[64:ff9b:1::5db8:d822]", PRIVATE),
        ("[2002:a00:1::1]", PRIVATE),
        ("[2001:0:5db8:d822::f5ff:fffe]", PRIVATE),  # Teredo, whose client is 10.0.0.1
        ("[2606:2800::5efe:10.0.0.1]", PRIVATE),  # ISATAP
        ("[2606:2800:220:1:248:1893:25c8:1946]", None),
        ("localhost.example.com", None),
        ("169.254.169.254", MACHINE),
        ("169.254.0.1:80", MACHINE),
        ("a:b@169.254.169.254", MACHINE),
        ("169.254.169.254.", MACHINE),
        ("2852039166", MACHINE),
        ("0xA9FEA9FE", MACHINE),
        ("025177524776", MACHINE),
        ("0251.0376.0251.0376", MACHINE),
        ("0xa9.254.0xa9.254", MACHINE),
        ("169.254.43518", MACHINE),
        ("127.1", MACHINE),
        ("127.255.255.254", MACHINE),
        ("0", MACHINE),
        ("0.0.0.0", MACHINE),  # noqa: S104 - nothing is bound
        ("localhost", MACHINE),
        ("LocalHost.", MACHINE),
        ("x.localhost", MACHINE),
        ("local\u00adhost", MACHINE),  # a soft hyphen, which resolvers never see
        ("\uff4cocalhost", MACHINE),  # a fullwidth l
        ("\u2460\u2461\u2466.0.0.1", MACHINE),  # circled digits
        ("127\u30020\u30020\u30021", MACHINE),  # ideographic full stops
        ("metadata.google.internal", MACHINE),
        ("METADATA.GOOGLE.INTERNAL.:80", MACHINE),
        ("100.100.100.200", MACHINE),
        ("[::1]", MACHINE),
        ("[0:0:0:0:0:0:0:1]:8080", MACHINE),
        ("[::]", MACHINE),
        ("[fe80::1]", MACHINE),
        ("[febf:0:0:0:0:0:0:1]", MACHINE),
        ("[fd00:ec2::254]", MACHINE),
        ("[::ffff:169.254.169.254]", MACHINE),
        ("[::ffff:a9fe:a9fe]", MACHINE),
        ("[::127.0.0.1]", MACHINE),
        ("[64:ff9b::a9fe:a9fe]", MACHINE),
        ("[64:ff9b:1::a9fe:a9fe]", MACHINE),
        ("[64:ff9b:1:a9fe:a9:fe00::]", MACHINE),
        ("[64:ff9b:1:aa:fe:a9fe::]", PRIVATE),
        ("[64:ff9b:1:a9:fe:a9fe::]", MACHINE),
        ("[64:ff9b:1:0:a9:fea9:fe00:0]", MACHINE),
        ("[::ffff:0:127.0.0.1]", MACHINE),
        ("[2001:0:7f00:1::]", MACHINE),  # Teredo, whose server is 127.0.0.1
        ("[2606:2800::200:5efe:127.0.0.1]", MACHINE),  # ISATAP
        ("[2002:7f00:1::]", MACHINE),
        ("[0:0:0:0:0:ffff:7f00:1]", MACHINE),
        ("[::ffff:169.254.43518]", HOST),
        ("[::1%lo]", HOST),
        ("[fe80::1%25]", HOST),
        ("[v1.fe80::1]", HOST),
        ("::1", HOST),
        ("[[::1]]", HOST),
        ("[::1", HOST),
        ("[2002:a9fe:a9fe:0:0:0:0:1]", MACHINE),
        ("[fe80::1%25eth0]", HOST),
        ("127.0.0.%31", HOST),
        ("169.254.169.254\\@example.com", HOST),
        ("example.com\\@169.254.169.254", HOST),
        ("example.com@x@169.254.169.254", HOST),
        ("169.254.\n169.254", HOST),
        ("169.254.169.254 ", HOST),
        ("example.com:80:90", HOST),
        ("", HOST),
        (":80", HOST),
        ("a..b", HOST),
        (".", HOST),
    ],
)
def test_hosts(host: str, words: str | None) -> None:
    for url in (f"http://{host}/a.jpg", f"HTTPS://{host}", f"https://{host}?a=b#c"):
        reason = WEB.why_not(url, "https://lists.org/in")
        assert (reason is None) if words is None else (reason is not None and words in reason), (url, reason)


def test_the_web_allows_its_own_schemes_only() -> None:
    allowed = AllowedImages.beside(["https://lists.org/m.csv"], "/out", None)
    base = "https://lists.org"
    assert FOREIGN in str(allowed.why_not("https://other.org/a.jpg", base))
    assert allowed.why_not("https://LISTS.org:443/x/a.jpg?b=//c", base) is None
    assert allowed.why_not("a.jpg", base) is None
    assert OUTSIDE in str(allowed.why_not("../a.jpg", base))
    assert allowed.why_not("https://lists.org/a::b.jpg", base) is None  # no client takes a URL apart there
    for uri in ("http://other.org/a.jpg", "/etc/passwd", "file:///etc/passwd", "s3://bucket/a.jpg"):
        assert allowed.why_not(uri, base) == "an image's URI must be https:// (storage.schemes can allow others)"


def test_a_manifest_may_name_images_of_its_own_host() -> None:
    allowed = AllowedImages.beside(["http://127.0.0.1:8000/m.csv"], None, None)
    for url in ("http://127.0.0.1:8000/a.jpg", "http://127.1/a.jpg", "a.jpg"):
        assert allowed.why_not(url, "http://127.0.0.1:8000") is None
    assert FOREIGN in str(allowed.why_not("http://127.0.0.2/a.jpg", "http://127.0.0.1:8000"))
    assert FOREIGN in str(allowed.why_not("http://localhost/a.jpg", "http://127.0.0.1:8000"))
    allowed = AllowedImages.beside(["http://127.0.0.1:8000/m.csv"], None, ["http"])
    assert allowed.why_not("http://127.0.0.1:9000/a.jpg", "http://127.0.0.1:8000") is None
    assert MACHINE in str(allowed.why_not("http://127.0.0.2/a.jpg", "http://127.0.0.1:8000"))
    assert MACHINE in str(allowed.why_not("http://localhost/a.jpg", "http://127.0.0.1:8000"))


def test_defaults_come_from_manifest_base_and_output() -> None:
    def schemes(*sources: str, output: str | None = None, given: list[str] | None = None) -> tuple[str, ...]:
        return AllowedImages.beside(sources, output, given).schemes

    assert schemes("/m.csv", output="/out") == ("file",)
    assert schemes("m.csv", output="S3://out") == ("file", "s3")
    assert schemes("s3://b/m.csv", output="s3://out") == ("s3",)
    assert schemes("s3://b/m.csv", output="/out") == ("s3",)  # the output gives no right to read here
    assert schemes("https://h/m.csv", "gs://images", output="s3://out") == ("https", "gs", "s3")
    assert schemes("s3://b/m.csv", output="s3://out", given=["file", "https"]) == ("file", "https")
    reason = AllowedImages.beside(["m.csv"], "s3://out", None).why_not("https://h/a.jpg", "/")
    assert reason == "an image's URI must be a path of this machine or s3:// (storage.schemes can allow others)"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://photos/2026/a.jpg", None),
        ("s3a://photos/2026/a.jpg", None),
        ("s3://photos/2026", None),
        ("s3://photos/20260/a.jpg", FOREIGN),
        ("s3://photos/2026/../2025/a.jpg", FOREIGN),
        ("s3://photos/2026/%2E%2e/2025/a.jpg", FOREIGN),
        ("s3://photos/2026/%252e%252e/2025/a.jpg", FOREIGN),
        ("s3://photos/2026%2f..%2f2025/a.jpg", FOREIGN),
        ("https://cdn.example.com/pub/a%20b.jpg?x=1", None),
        ("HTTPS://CDN.example.com:443/pub/a b.jpg", None),
        ("https://cdn.example.com/public/a.jpg", SCHEME),
        ("https://cdn.example.com/pub/../private/a.jpg", SCHEME),
        ("https://cdn.example.com/pub/%2e%2e/private/a.jpg", SCHEME),
        ("https://cdn.example.com/pub/..%5cprivate/a.jpg", SCHEME),
        ("https://cdn.example.com/?/pub/a.jpg", SCHEME),
        ("https://cdn.example.com@evil.org/pub/a.jpg", SCHEME),
        ("https://cdn.example.com.evil.org/pub/a.jpg", SCHEME),
        ("https://cdn.example.com:8443/pub/a.jpg", SCHEME),
        ("http://cdn.example.com/pub/a.jpg", SCHEME),
        ("https://10.0.0.7:8443/a.jpg", None),  # the user named this one
        ("https://10.0.0.8:8443/a.jpg", SCHEME),
        ("/data/images/x/a.jpg", None),
        ("file:///data/images/a.jpg", None),
        ("/data/images/../../etc/passwd", SCHEME),
        ("/data/imagesX/a.jpg", SCHEME),
        ("gs://any/a.jpg", None),
        ("gs://any/../a.jpg", SCHEME),
    ],
)
def test_prefixes_allow_places(uri: str, words: str | None) -> None:
    reason = OF_SEVERAL.why_not(uri, "s3://lists/in")
    assert (reason is None) if words is None else (reason is not None and words in reason), reason


def test_private_networks_can_be_allowed() -> None:
    allowed = AllowedImages.beside(["/m.csv"], None, ["http"], private_networks=True)
    for host in ("10.1.2.3", "[fd12::1]", "192.168.0.1"):
        assert allowed.why_not(f"http://{host}/a.jpg", "/") is None
    for host in ("127.0.0.1", "169.254.169.254", "[fd00:ec2::254]", "localhost"):
        assert MACHINE in str(allowed.why_not(f"http://{host}/a.jpg", "/"))


def test_a_foreign_manifest_with_a_base_of_this_machine_reads_below_that() -> None:
    allowed = AllowedImages.beside(["s3://lists/m.csv"], "/out", None, base="/photos")
    for uri in ("a.jpg", "x/../a.jpg", "/photos/a.jpg", "s3://lists/a.jpg"):
        assert allowed.why_not(uri, "/photos") is None
    for uri in ("../etc/passwd", "/etc/passwd", "file:///etc/passwd", "/photos/../etc/passwd", "/photos2/a"):
        assert FOREIGN in str(allowed.why_not(uri, "/photos"))


@pytest.mark.parametrize(
    ("source", "inside", "outside"),
    [
        ("hf://datasets/me/set@main/m.csv", "hf://datasets/me/set@main/a.jpg", "hf://datasets/me/other/a.jpg"),
        ("abfs://c@vendor.dfs.core.windows.net/m", "abfs://c@vendor.dfs.core.windows.net/x/a", "abfs://c@mine/a"),
        ("abfs://c@vendor.dfs.core.windows.net/m", "abfs://c@vendor.dfs.core.windows.net/a", "abfs://d@vendor/a"),
        (
            "s3://arn:aws:s3:eu:1:accesspoint/one/m.csv",
            "s3://arn:aws:s3:eu:1:accesspoint/one/a.jpg",
            "s3://arn:aws:s3:eu:1:accesspoint/two/a.jpg",
        ),
        ("gs://one/m.csv", "gs://one/a.jpg", "gs://two/a.jpg"),
        ("sftp://host/m.csv", "sftp://host/a.jpg", "sftp://other/a.jpg"),
    ],
)
def test_the_place_of_a_manifest_is_what_a_store_gives_rights_for(source: str, inside: str, outside: str) -> None:
    allowed = AllowedImages.beside([source], None, None)
    assert allowed.why_not(inside, source.rpartition("/")[0]) is None
    assert FOREIGN in str(allowed.why_not(outside, source.rpartition("/")[0]))


@pytest.mark.parametrize("mark", ["/9j/4AAQSkZJRgABAQ", "iVBORw0KGgoAAAANSUhEUg", "R0lGODlh", "UklGRiQAAABXRUJQ"])
def test_an_image_in_base64_is_named_as_what_it_is(mark: str) -> None:
    allowed = AllowedImages.beside(["/lists/m.jsonl"], None, None)
    wanted = "must not be the image itself in base64: write its bytes into a binary column of a Parquet file"
    for uri in (mark + "Ab+/" * 100, mark + "Ab+/" * 10_000 + "==", "data:image/png;base64,AAAA", "DATA:image/png,x"):
        assert wanted in str(allowed.why_not(uri, "/lists")), uri[:30]
    for uri in ("/9j/a.jpg", f"/9j/{'a' * 100}.jpg", "data/a.jpg", "/data:/a.jpg", "iVBORw0KGgo.png"):
        assert allowed.why_not(uri, "/lists") is None, uri
