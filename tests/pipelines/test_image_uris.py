"""Which image URIs may be fetched: one table, and what the defaults are."""

import pytest

from pipelines.manifest.image_uris import MAX_CHARACTERS, AllowedImages

SCHEME = "(storage.schemes can allow others)"
MISSPELT = "a path, or begin with its scheme"
CHAINED = "must not hold ::"
MACHINE = "another machine than this one"
HOST = "can be read in one way only"
OUTSIDE = "within the bucket or host of the manifest"
LENGTH = f"at most {MAX_CHARACTERS} characters"

REMOTE = AllowedImages.beside(["s3://lists/in/m.csv"], "/data/out", None)
LOCAL = AllowedImages.beside(["/lists/m.csv"], "s3://out", None)
WEB = AllowedImages.beside(["https://lists.org/in/m.csv"], None, ["https", "http"])


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("a.jpg", None),
        ("../a.jpg", None),
        ("x/../../a b%20#?.jpg", None),
        ("s3://other/a\n.jpg", None),
        ("S3://other/a.jpg", None),
        ("s3://other/" + "ö" * 1024, None),
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
        ("s3://x::file://y", CHAINED),
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
        ("10.1.2.3", None),  # a company's own server
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
    assert allowed.why_not("https://other.org/a.jpg", base) is None
    assert allowed.why_not("a.jpg", base) is None
    assert allowed.why_not("../a.jpg", base) is not None
    assert allowed.why_not("https://h/a::b.jpg", base) == "an image's URI must not hold ::"
    for uri in ("http://other.org/a.jpg", "/etc/passwd", "file:///etc/passwd", "s3://bucket/a.jpg"):
        assert allowed.why_not(uri, base) == "an image's URI must be https:// (storage.schemes can allow others)"


def test_a_manifest_may_name_images_of_its_own_host() -> None:
    allowed = AllowedImages.beside(["http://127.0.0.1:8000/m.csv"], None, None)
    for url in ("http://127.0.0.1:8000/a.jpg", "http://127.1/a.jpg", "a.jpg"):
        assert allowed.why_not(url, "http://127.0.0.1:8000") is None
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
