#!/usr/bin/env python3
"""Verifies a transparency log from its files and its public key: an independent reading of C2SP tlog-tiles,
tlog-checkpoint, signed-note and RFC 6962, with Python's standard library alone.

    verify_tlog.py DIRECTORY KEY [--checkpoint FILE]...

KEY is NAME+HASH+BASE64, or a file that holds it. Ends with 0 when all is well, 1 when something is wrong, 2 for wrong
usage.
"""

import base64
import hashlib
import os
import sys

WIDTH = 256

# Ed25519, RFC 8032, section 6: verification only, slow, and easy to compare with the text.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def decompress(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verify(key, message, signature):
    if len(key) != 32 or len(signature) != 64:
        return False
    a, r = decompress(key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return same(multiply(s, BASE), add(r, multiply(h, a)))


class Wrong(Exception):
    """Something is wrong with the log."""


def parse_key(text):
    name, digest, encoded = text.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    key_id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if raw[0] != 1 or len(raw) != 33 or key_id.hex() != digest:
        raise SystemExit("not a verifier key")
    return name, key_id, raw[1:]


def open_checkpoint(note, key):
    name, key_id, public = key
    try:
        body, signatures = note.decode("utf-8").rsplit("\n\n", 1)
    except (UnicodeDecodeError, ValueError):
        raise Wrong("the checkpoint is no signed note")
    text = body + "\n"
    if not signatures.endswith("\n"):
        raise Wrong("the checkpoint's signatures are cut off")
    is_signed = False
    for line in signatures[:-1].split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "\u2014":
            raise Wrong("a signature line is malformed")
        try:
            raw = base64.b64decode(parts[2], validate=True)
        except ValueError:
            raise Wrong("a signature is no base64")
        if base64.b64encode(raw).decode() != parts[2] or len(raw) < 5:
            raise Wrong("a signature is malformed")
        if parts[1] == name and raw[:4] == key_id:
            if not ed25519_verify(public, text.encode(), raw[4:]):
                raise Wrong("the checkpoint's signature is wrong")
            is_signed = True
    if not is_signed:
        raise Wrong("the checkpoint is not signed by this key")
    origin, size, root = text.split("\n")[:3]
    if origin != name or str(int(size)) != size:
        raise Wrong("the checkpoint is of another log or malformed")
    return int(size), base64.b64decode(root, validate=True)


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves):
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def tile_path(level, index, width):
    groups = ["%03d" % (index % 1000)]
    index //= 1000
    while index:
        groups.insert(0, "x%03d" % (index % 1000))
        index //= 1000
    suffix = "" if width == WIDTH else ".p/%d" % width
    return "tile/%s/%s%s" % (level, "/".join(groups), suffix)


def read(directory, path):
    try:
        with open(os.path.join(directory, path), "rb") as file:
            return file.read()
    except OSError as error:
        raise Wrong("%s: %s" % (path, error.strerror))


def read_entries(directory, size, known):
    leaves = []
    for index in range((size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, size - index * WIDTH)
        path = tile_path("entries", index, width)
        known.add(path)
        raw, at, count = read(directory, path), 0, 0
        while at < len(raw):
            length = int.from_bytes(raw[at:at + 2], "big")
            if at + 2 > len(raw) or at + 2 + length > len(raw):
                raise Wrong("%s: an entry is cut off" % path)
            leaves.append(leaf_hash(raw[at + 2:at + 2 + length]))
            at, count = at + 2 + length, count + 1
        if count != width:
            raise Wrong("%s holds %d entries, not %d" % (path, count, width))
    return leaves


def check_tiles(directory, leaves, known):
    hashes, level = leaves, 0
    while hashes:
        for index in range((len(hashes) + WIDTH - 1) // WIDTH):
            part = hashes[index * WIDTH:(index + 1) * WIDTH]
            path = tile_path(level, index, len(part))
            known.add(path)
            if read(directory, path) != b"".join(part):
                raise Wrong("%s is not what the entries give" % path)
        full = len(hashes) // WIDTH
        hashes = [tree_hash(hashes[i * WIDTH:(i + 1) * WIDTH]) for i in range(full)]
        level += 1


def check_strangers(directory, known):
    for place, _, names in os.walk(os.path.join(directory, "tile")):
        for name in names:
            path = os.path.relpath(os.path.join(place, name), directory)
            if path not in known:
                raise Wrong("%s does not belong to the log" % path)


def verify(directory, key, kept):
    size, root = open_checkpoint(read(directory, "checkpoint"), key)
    known = set()
    leaves = read_entries(directory, size, known)
    check_tiles(directory, leaves, known)
    check_strangers(directory, known)
    if tree_hash(leaves) != root:
        raise Wrong("the entries do not add up to the checkpoint")
    for name in kept:
        with open(name, "rb") as file:
            earlier, earlier_root = open_checkpoint(file.read(), key)
        if earlier > size:
            raise Wrong("rolled back from %d to %d entries" % (earlier, size))
        if tree_hash(leaves[:earlier]) != earlier_root:
            raise Wrong("the first %d entries are not those of %s" % (earlier, name))
    return size, root


def main(arguments):
    kept = []
    while "--checkpoint" in arguments:
        at = arguments.index("--checkpoint")
        kept.append(arguments[at + 1])
        del arguments[at:at + 2]
    if len(arguments) != 2:
        sys.exit(2)
    directory, key = arguments
    if os.path.isfile(key):
        with open(key, encoding="utf-8") as file:
            key = file.read()
    try:
        size, root = verify(directory, parse_key(key), kept)
    except Wrong as wrong:
        print("WRONG:", wrong)
        sys.exit(1)
    print("good: %d entries, root %s" % (size, base64.b64encode(root).decode()))


if __name__ == "__main__":
    main(sys.argv[1:])
