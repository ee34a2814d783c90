# SPDX-License-Identifier: Apache-2.0
"""The few requests of the Kafka protocol that the client library of Debian 12 has no function for: what a group committed, with its
metadata, who is in it, and the removal of records. One node is every partition's leader and every group's coordinator, so each goes to
the same address. Formats: https://kafka.apache.org/protocol, the versions before the compact ones.
"""
import socket
import struct

OFFSET_COMMIT, OFFSET_FETCH, DESCRIBE_GROUPS, DELETE_RECORDS = 8, 9, 15, 21
LOADING, NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16


class WireError(Exception):
    def __init__(self, what, code):
        super().__init__(f"{what}: Kafka error {code}")
        self.code = code

    @property
    def passing(self):
        return self.code in (LOADING, NOT_AVAILABLE, NOT_COORDINATOR)


def check(what, code):
    if code:
        raise WireError(what, code)


def string(text):
    if text is None:
        return struct.pack(">h", -1)
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        piece = self.data[self.at:self.at + size]
        if len(piece) != size:
            raise ValueError("the answer is too short")
        self.at += size
        return piece

    def number(self, kind):
        return struct.unpack(">" + kind, self.take(struct.calcsize(">" + kind)))[0]

    def int16(self):
        return self.number("h")

    def int32(self):
        return self.number("i")

    def int64(self):
        return self.number("q")

    def string(self):
        size = self.int16()
        return None if size < 0 else self.take(size).decode()

    def bytes(self):
        size = self.int32()
        return b"" if size < 0 else self.take(size)

    def array(self, read):
        return [read() for _ in range(self.int32())]

    def topics(self, read_partition):
        """{topic: {partition: what read_partition() returns}}, as many answers have it."""
        def one():
            return self.string(), dict(self.array(lambda: (self.int32(), read_partition())))
        return dict(self.array(one))


def exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("the broker closed the connection")
        data += piece
    return bytes(data)


def call(address, key, version, body):
    host, _, port = address.rpartition(":")
    message = struct.pack(">hhi", key, version, 1) + string("kafka-wire") + body
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(struct.pack(">i", len(message)) + message)
        (size,) = struct.unpack(">i", exactly(sock, 4))
        return Reader(exactly(sock, size)[4:])


def committed(address, group):
    """{topic: {partition: (offset, metadata)}} of all that the group committed."""
    answer = call(address, OFFSET_FETCH, 2, string(group) + struct.pack(">i", -1))

    def partition():
        offset, metadata, error = answer.int64(), answer.string(), answer.int16()
        check(f"offsets of {group}", error)
        return offset, metadata

    topics = answer.topics(partition)
    check(f"offsets of {group}", answer.int16())
    return topics


def commit(address, group, topic, offsets):
    """offsets: {partition: (offset, metadata)}. Only while the group has no member."""
    partitions = [struct.pack(">iq", number, offset) + string(metadata) for number, (offset, metadata) in offsets.items()]
    answer = call(address, OFFSET_COMMIT, 2, string(group) + struct.pack(">i", -1) + string("") + struct.pack(">q", -1)
                  + array([string(topic) + array(partitions)]))
    answer.topics(lambda: check(f"commit of {group}", answer.int16()))


def describe_group(address, group):
    """(state, [(member id, client id, host, {topic: [partitions]})])"""
    answer = call(address, DESCRIBE_GROUPS, 0, array([string(group)]))
    assert answer.int32() == 1
    check(f"group {group}", answer.int16())
    answer.string()  # its name
    state = answer.string()
    answer.string()  # protocol type
    answer.string()  # assignor

    def member():
        name, client, host = answer.string(), answer.string(), answer.string()
        answer.bytes()  # subscription
        return name, client, host, assignment(answer.bytes())

    return state, answer.array(member)


def assignment(data):
    """A consumer's assignment: version, then topics with partitions. Empty while the group is still dealing."""
    if not data:
        return {}
    reader = Reader(data)
    reader.int16()
    return dict(reader.array(lambda: (reader.string(), sorted(reader.array(reader.int32)))))


def delete_records(address, topic, offsets):
    """offsets: {partition: first offset to keep}"""
    partitions = [struct.pack(">iq", number, offset) for number, offset in offsets.items()]
    answer = call(address, DELETE_RECORDS, 0, array([string(topic) + array(partitions)]) + struct.pack(">i", 20000))
    answer.int32()  # throttle time

    def partition():
        answer.int64()  # new first offset
        check(f"deletion from {topic}", answer.int16())

    answer.topics(partition)
