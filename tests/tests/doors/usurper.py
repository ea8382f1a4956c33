"""A program that runs in the edge role's place, with its user and under its unit's filters, and tries what edge must not do.

It prints one line of JSON for each attempt: its name, and the error that it met, or what came of it.
"""
import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys

GIVEN = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)
# asm-generic/socket.h and linux/in.h
SO_MARK, SO_BINDTODEVICE, SO_RCVBUFFORCE, IP_TRANSPARENT = 36, 25, 33, 19
# linux/if_tun.h
TUNSETIFF, IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0001, 0x1000, 0x4000
PTRACE_ATTACH, CLONE_NEWNET = 16, 0x40000000
WAIT_S = 1.0


def attempt(name, work):
    try:
        said = {"said": str(work())}
    except TimeoutError:
        said = {"error": "timed out"}
    except OSError as error:
        said = {"error": errno.errorcode.get(error.errno, str(error))}
    print(json.dumps({"name": name, **said}), flush=True)


def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def program(*words):
    if subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0:
        raise OSError(errno.EPERM, "")


def tcp(family=socket.AF_INET):
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(WAIT_S)
    return made


def reach(address, port, prepare=lambda made: None):
    made = tcp(socket.AF_INET6 if ":" in address else socket.AF_INET)
    prepare(made)
    made.connect((address, port))
    return "connected"


def send(address, port):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    return made.sendto(b"probe", (address, port))


def ask(path, frame):
    """Sends a frame to a role; gives its answer, and the socket that came with it."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(20)
    stream.connect(path)
    stream.sendall(bytes.fromhex(frame))
    head, sockets, _, _ = socket.recv_fds(stream, 1, 2)
    while len(head) < 4:
        head += stream.recv(4 - len(head))
    body, length = b"", struct.unpack(">I", head)[0]
    while len(body) < length:
        body += stream.recv(length - len(body))
    return body.decode(), [socket.socket(fileno=number) for number in sockets]


def of_session():
    """A socket of the session that is open, which edge may have."""
    said, sockets = ask(GIVEN["doors"], GIVEN["connect"])
    sockets[0].settimeout(WAIT_S)
    return sockets[0]


def works(address, port):
    made = of_session()
    made.connect((address, port))
    made.sendall(b"hello")
    return made.recv(5).decode()


def elsewhere(address, port):
    of_session().connect((address, port))
    return "connected"


def tun(name):
    number = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(number, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    return number


def inject():
    number = tun("sekisho-vpn")
    for packet in GIVEN["packets"]:
        os.write(number, bytes(10) + bytes.fromhex(packet))
    return len(GIVEN["packets"])


def kernel():
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
    attempt("nft add rule", lambda: program("/usr/sbin/nft", "insert", "rule", "inet", "sekisho", "output", "accept"))
    attempt("nft flush", lambda: program("/usr/sbin/nft", "flush", "ruleset"))
    attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6))
    attempt("raw socket, IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))
    attempt("mark", lambda: tcp().setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("I", GIVEN["mark"])))
    attempt("mark of a session's socket", lambda: of_session().setsockopt(socket.SOL_SOCKET, SO_MARK, 0))
    attempt("transparent", lambda: tcp().setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1))
    attempt("force a buffer", lambda: tcp().setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 30))
    attempt("a low port", lambda: tcp().bind(("", 22)))
    attempt("another's tunnel", lambda: tun(GIVEN["others_tunnel"]))
    attempt("a new tunnel", lambda: tun("usurped0"))
    attempt("user", lambda: os.setuid(0))
    attempt("groups", lambda: os.setgroups([0]))
    attempt("mount", lambda: call(LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None)))
    attempt("chroot", lambda: os.chroot("/tmp"))
    attempt("another network", lambda: call(LIBC.unshare(CLONE_NEWNET)))
    attempt("core's namespace", lambda: os.open(f"/proc/{GIVEN['core']}/ns/net", os.O_RDONLY))


def devices():
    for address, port in GIVEN["devices"]:
        attempt(f"connect to {address} {port}", lambda: reach(address, port))
        attempt(f"send to {address} {port}", lambda: send(address, port))
        if ":" not in address:
            attempt(f"by a session's socket to {address} {port}", lambda: elsewhere(address, port))
    address, port = GIVEN["target"]
    device = GIVEN["interface"].encode()
    by_device = lambda made: made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device)
    attempt("connect without the session's socket", lambda: reach(address, port))
    attempt("connect by device", lambda: reach(address, port, by_device))
    attempt("connect from the gateway's address", lambda: reach(address, port, lambda made: made.bind((GIVEN["own"], 0))))
    attempt("the session's socket to its target", lambda: works(address, port))
    attempt("packets into its own tunnel", inject)


def core():
    pid = GIVEN["core"]
    word = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(word), 8)
    attempt("core's memory", lambda: open(f"/proc/{pid}/mem", "rb"))
    attempt("core's environment", lambda: open(f"/proc/{pid}/environ", "rb").read())
    attempt("core's descriptors", lambda: os.listdir(f"/proc/{pid}/fd"))
    attempt("trace core", lambda: call(LIBC.ptrace(PTRACE_ATTACH, pid, None, None)))
    attempt("read core's memory", lambda: call(LIBC.process_vm_readv(pid, vector, 1, vector, 1, 0)))
    attempt("signal core", lambda: os.kill(pid, 0))
    # pidfd_getfd(2)
    attempt("a descriptor of core's", lambda: call(LIBC.syscall(438, os.pidfd_open(pid), 0, 0)))


def files():
    for path in GIVEN["secrets"]:
        attempt(f"read {path}", lambda: open(path, "rb").read(1))
    for path in GIVEN["directories"]:
        attempt(f"list {path}", lambda: os.listdir(path))
    for path in GIVEN["places"]:
        attempt(f"write {path}", lambda: open(path, "wb"))
        attempt(f"remove {path}", lambda: os.unlink(path))
        attempt(f"bind {path}", lambda: socket.socket(socket.AF_UNIX).bind(path + ".new"))


def words():
    for name, path, frame in GIVEN["words"]:
        attempt(name, lambda: ask(path, frame))


for work in (kernel, devices, core, files, words):
    work()
