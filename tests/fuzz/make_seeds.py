#!/usr/bin/python3
"""make_seeds.py - the seeds of fuzz_http, fuzz_options, fuzz_record and fuzz_redis: our own, a few
bytes each. Those of the decoders are made by make_decode_seeds.py."""

import struct
import zlib
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds"

HTTP = {  # the first byte: pieces and when the owner answers, see fuzz_http.c
    "get": b"\x0cGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "length": b"\x0dPOST /v1/features?h=10 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"\x0cPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"5\r\nhello\r\n0\r\n\r\n",
    "chunks": b"\x03POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"1;ext=1\r\na\r\nF\r\n0123456789abcde\r\n0000\r\nTrailer: x\r\n\r\n",
    "chunk_sizes": b"\x00POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                   b"ffffffffffffffff\r\n",
    "pipelined": b"\x0cGET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\n"
                 b"Content-Length: 1\r\n\r\nxGET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "expect": b"\x0ePOST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
              b"Content-Length: 3\r\n\r\nabc",
    "old": b"\x0cGET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "both_lengths": b"\x0cPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "escapes": b"\x0dGET /a?b=%41%zz+c&d HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "folding": b"\x0cGET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    "proxy_1": b"\x1cPROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "proxy_2": b"\x1c\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb"
               b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "forwarded": b"\x1cGET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n"
                 b"Forwarded: for=\"[2001:db8::7]:80\";by=x, for=192.0.2.7\r\n\r\n",
    "bare_lf": b"\x0cGET / HTTP/1.1\nHost: a\n\n",
}

OPTIONS = {
    "whole": b"[sample]\nlane_depth = 7\nbody_bytes_max = 4M\nlisten = [::1]:8080\n"
             b"allow_high = yes\n",
    "comments": b"; a\n# b\n[other]\nx = 1\n[sample]\nlane_depth = 9 ; end\n",
    "twice": b"[sample]\nlane_depth = 1\nlane_depth = 2\n",
    "bounds": b"[sample]\nlane_depth = 65537\n",
    "suffix": b"[sample]\nbody_bytes_max = 16777216G\n",
    "unknown": b"[sample]\nno_such = 1\n",
}


def record(tags=b"", params=b"", payload=b"", mended=b"\x00"):
    head = (b"SMRC" + struct.pack("<HHQ", 1, 0, 1700000000) + bytes(range(32))
            + struct.pack("<IIIHHI", 640, 480, 9000, len(params), len(tags), len(payload)))
    rest = params + tags + payload
    return mended + head + struct.pack("<I", zlib.crc32(head + rest)) + rest


RECORD = {
    "plain": record(payload=b"SMFB"),
    "tags": record(tags=b"a,album-7,b:3", params=bytes(20), payload=b"x" * 40),
    "mended": record(tags=b"a", payload=b"y", mended=b"\x01"),
    "empty": record(),
}

REDIS = {
    "url": b"redis://user:p%40ss@cache-1.local:6380/15",
    "plain": b"redis://127.0.0.1",
    "v6": b"redis://:x@[fe80::1%eth0]:7000/0",
    "unix": b"unix:///run/redis/redis.sock?db=3",
    "scan": b"scan:18446744073709551615:127.0.0.1:7001",
    "tag": b"tag:1000",
}

for folder, seeds in (("fuzz_http", HTTP), ("fuzz_options", OPTIONS), ("fuzz_record", RECORD),
                      ("fuzz_redis", REDIS)):
    (SEEDS / folder).mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (SEEDS / folder / name).write_bytes(data)
