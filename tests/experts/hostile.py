"""Files made to harm whoever reads them, each made from a sound zip. Harmless if never run.

Every payload, if anything unpickled it, would make the directory ``canary``.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

Members = dict[str, bytes]
Hostile = Callable[[Path, Members, Path], None]
"""Write the file at the first path, from these members; the second path is the canary."""

HOSTILE: dict[str, Hostile] = {}


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def hostile(function: Hostile) -> Hostile:
    HOSTILE[function.__name__] = function
    return function


def write(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def payload(canary: Path) -> bytes:
    return pickle.dumps(Payload(canary), protocol=2)


def torch_zip(pickled: bytes, storages: Mapping[str, bytes] | None = None, **extra: bytes) -> bytes:
    """A file as torch.save writes it, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
        for name, content in {**(storages or {}), **extra}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def weights(members: Members) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    return loaded


def change_data(members: Members, change: Callable[[dict[str, Any]], None]) -> Members:
    data = json.loads(members["data"])
    change(data)
    return {**members, "data": json.dumps(data).encode()}


# Pickles, in every member


@hostile
def pickle_as_data(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "data": payload(canary)})


@hostile
def pickle_within_data(path: Path, members: Members, canary: Path) -> None:
    text = base64.b64encode(payload(canary)).decode()
    write(
        path, change_data(members, lambda data: data["policy_class"].update({":serialized:": text}))
    )


@hostile
def framed_pickle_within_data(path: Path, members: Members, canary: Path) -> None:
    text = base64.b64encode(pickle.dumps(Payload(canary), protocol=5)).decode()
    write(
        path, change_data(members, lambda data: data["lr_schedule"].update({":serialized:": text}))
    )


@hostile
def pickle_as_policy(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": payload(canary)})


@hostile
def pickle_within_policy(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": torch_zip(payload(canary))})


@hostile
def saved_object_as_policy(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": saved({"log_std": Payload(canary)})})


@hostile
def legacy_torch_file_as_policy(path: Path, members: Members, canary: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": Payload(canary)}, buffer, _use_new_zipfile_serialization=False)
    write(path, {**members, "policy.pth": buffer.getvalue()})


@hostile
def pickle_within_optimizer(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.optimizer.pth": torch_zip(payload(canary))})


@hostile
def pickle_within_variables(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "pytorch_variables.pth": torch_zip(payload(canary))})


@hostile
def pickle_as_version(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "_stable_baselines3_version": payload(canary)})


@hostile
def pickle_as_system_info(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "system_info.txt": pickle.dumps(Payload(canary), protocol=5)})


@hostile
def pickle_as_extra_member(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "replay_buffer.pkl": payload(canary)})


@hostile
def pickle_of_a_tensor_method(path: Path, members: Members, canary: Path) -> None:
    """Calls what it built itself instead of naming it."""
    stream = b"\x80\x02ccollections\nOrderedDict\n)R" + b")R."
    write(path, {**members, "policy.pth": torch_zip(stream)})


@hostile
def script_module_as_policy(path: Path, members: Members, canary: Path) -> None:
    inner = torch_zip(pickle.dumps({}, 2), {}, **{"code/__torch__.py": b"import os"})
    write(path, {**members, "policy.pth": inner})


# Names


@hostile
def path_traversal(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "../../escaped": b"x"})


@hostile
def path_traversal_with_backslashes(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "..\\..\\escaped": b"x"})


@hostile
def absolute_member(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, str(canary): b"x"})


@hostile
def symlink_member(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.pth")
        link.create_system = 3
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")


@hostile
def duplicate_names(path: Path, members: Members, canary: Path) -> None:
    import warnings

    write(path, members)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("policy.pth", torch_zip(payload(canary)))


# Sizes


def directory_entries(raw: bytes) -> list[int]:
    places, place = [], raw.rfind(b"PK\x05\x06")
    (start,) = struct.unpack_from("<L", raw, place + 16)
    (count,) = struct.unpack_from("<H", raw, place + 10)
    for _ in range(count):
        places.append(start)
        name, extra, comment = struct.unpack_from("<3H", raw, start + 28)
        start += 46 + name + extra + comment
    return places


def patch(path: Path, member: int, offset: int, layout: str, value: int) -> None:
    """Overwrite a field of a member's entry in the central directory."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(layout, raw, directory_entries(bytes(raw))[member] + offset, value)
    path.write_bytes(raw)


def patch_both(path: Path, member: int, offset: int, layout: str, value: int) -> None:
    """Overwrite a field of a member's entry in the directory and of its own header."""
    raw = bytearray(path.read_bytes())
    entry = directory_entries(bytes(raw))[member]
    (header,) = struct.unpack_from("<L", raw, entry + 42)
    struct.pack_into(layout, raw, entry + offset, value)
    struct.pack_into(layout, raw, header + offset - 2, value)
    path.write_bytes(raw)


@hostile
def overlapping_members(path: Path, members: Members, canary: Path) -> None:
    """A second entry points into the data of the first, as in D. Fifield's bombs."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("tensors.pth", members["policy.pth"])
    raw = inner.getvalue()
    data_end = directory_entries(raw)[0]
    content = torch_zip(pickle.dumps({}, 2), {"data/0": raw[:data_end]})
    write(path, {**members, "policy.optimizer.pth": content})
    outer = path.read_bytes()
    first = outer.index(raw[:data_end])
    entry = bytearray(raw[data_end : data_end + 46 + len("tensors.pth")])
    struct.pack_into("<L", entry, 42, first)
    end = outer.rfind(b"PK\x05\x06")
    tail = bytearray(outer[end:])
    count, size = struct.unpack_from("<H", tail, 8)[0], struct.unpack_from("<L", tail, 12)[0]
    struct.pack_into("<2HL", tail, 8, count + 1, count + 1, size + len(entry))
    path.write_bytes(outer[:end] + entry + tail)


@hostile
def ratio_bomb(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": bytes(40 * 2**20)}, zipfile.ZIP_DEFLATED)


@hostile
def ratio_bomb_inside_policy(path: Path, members: Members, canary: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(40 * 2**20))
    write(path, {**members, "policy.pth": buffer.getvalue()})


@hostile
def huge_declared_size(path: Path, members: Members, canary: Path) -> None:
    write(path, members, zipfile.ZIP_DEFLATED)
    patch(path, 0, 24, "<L", 0xFFFFFFF0)


@hostile
def small_declared_size(path: Path, members: Members, canary: Path) -> None:
    """Both headers say 2,000 bytes; the stream unpacks to 50 MB."""
    write(path, {"data": b"[" * (50 * 2**20), **{k: v for k, v in members.items() if k != "data"}},
          zipfile.ZIP_DEFLATED)  # fmt: skip
    patch(path, 0, 24, "<L", 2000)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<L", raw, 22, 2000)
    path.write_bytes(raw)


@hostile
def sizes_that_differ_between_headers(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    patch(path, 0, 20, "<L", 10)
    patch(path, 0, 24, "<L", 10)


@hostile
def flags_that_differ_between_headers(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    patch(path, 0, 8, "<H", 0x0800)


@hostile
def bytes_after_a_packed_stream(path: Path, members: Members, canary: Path) -> None:
    """All that is declared is true, but behind the member's stream lies something more."""
    name, content = "system_info.txt", b"- OS: Linux\n" * 20
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush() + payload(canary)
    write(path, {**members, name: packed})
    member = list({**members, name: packed}).index(name)
    for offset, layout, value in (
        (10, "<H", zipfile.ZIP_DEFLATED),
        (16, "<L", zlib.crc32(content)),
        (24, "<L", len(content)),
    ):
        patch_both(path, member, offset, layout, value)


@hostile
def a_hundred_thousand_members(path: Path, members: Members, canary: Path) -> None:
    local, central, offset = [], [], 0
    for index in range(100_000):
        name = b"%08d" % index
        header = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 8, 0) + name
        local.append(header)
        central.append(
            struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, offset
            )
            + name
        )
        offset += len(header)
    directory = b"".join(central)
    # The count does not fit 16 bits; 34,464 is what wraps around.
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 34464, 34464, len(directory), offset, 0)
    path.write_bytes(b"".join(local) + directory + end)


@hostile
def more_members_than_declared(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<2H", raw, raw.rfind(b"PK\5\6") + 8, 2, 2)
    path.write_bytes(raw)


@hostile
def many_opcodes(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": torch_zip(b"\x80\x02" + b"N" * 5_000_000 + b".")})


@hostile
def many_opcodes_within_data(path: Path, members: Members, canary: Path) -> None:
    text = base64.b64encode(b"\x80\x02" + b"N0" * 1_000_000 + b"N.").decode()
    write(path, change_data(members, lambda data: data.update(x={":serialized:": text})))


@hostile
def deeply_nested_json(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "data": b'{"a":' + b"[" * 1_000_000})


@hostile
def many_json_objects(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "data": b"[" + b"[]," * 1_350_000 + b"[]]"})


@hostile
def a_number_of_a_million_digits(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "data": b'{"a": ' + b"9" * 1_000_000 + b"}"})


@hostile
def a_long_row_of_digits(path: Path, members: Members, canary: Path) -> None:
    """Takes a careless regular expression hours."""
    write(
        path,
        change_data(members, lambda data: data["action_space"].update(low="1" * 65_000 + "x")),
    )


# Broken files


@hostile
def encrypted(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    patch(path, 2, 8, "<H", 1)


@hostile
def truncated(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@hostile
def truncated_directory(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rfind(b"PK\1\2")] + raw[raw.rfind(b"PK\5\6") :])


@hostile
def flipped_bit(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    raw = bytearray(path.read_bytes())
    raw[raw.index(members["policy.pth"]) + len(members["policy.pth"]) // 2] ^= 4
    path.write_bytes(raw)


@hostile
def bytes_after_the_end(path: Path, members: Members, canary: Path) -> None:
    write(path, members)
    path.write_bytes(path.read_bytes() + payload(canary))


@hostile
def not_a_zip(path: Path, members: Members, canary: Path) -> None:
    path.write_bytes(b"#!/bin/sh\nmkdir " + str(canary).encode())


@hostile
def empty_file(path: Path, members: Members, canary: Path) -> None:
    path.write_bytes(b"")


@hostile
def bare_pickle(path: Path, members: Members, canary: Path) -> None:
    path.write_bytes(payload(canary))


@hostile
def other_zip(path: Path, members: Members, canary: Path) -> None:
    write(path, {"data": b"{}"})


@hostile
def exported_program(path: Path, members: Members, canary: Path) -> None:
    write(path, {"archive_format": b"pt2", "models/model.json": b"{}", "byteorder": b"little"})


# Weights


@hostile
def nan_weights(path: Path, members: Members, canary: Path) -> None:
    changed = weights(members)
    changed["action_net.weight"][0, 0] = float("nan")
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def infinite_spread(path: Path, members: Members, canary: Path) -> None:
    changed = weights(members)
    changed["log_std"][0] = 1e30
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def weights_of_another_shape(path: Path, members: Members, canary: Path) -> None:
    changed = weights(members)
    changed["action_net.weight"] = changed["action_net.weight"][:, :-1].clone()
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def weights_without_a_bias(path: Path, members: Members, canary: Path) -> None:
    changed = weights(members)
    del changed["action_net.bias"]
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def scalar_weights(path: Path, members: Members, canary: Path) -> None:
    changed = {name: torch.zeros(()) for name in weights(members)}
    write(path, {**members, "policy.pth": saved(changed)})


def text(value: str) -> bytes:
    return b"X" + struct.pack("<L", len(value)) + value.encode()


def tensor_pickle(count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> bytes:
    """A state dict of one tensor, with whatever numbers."""

    def number(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += number(count) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(size)
    tensor += numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02ccollections\nOrderedDict\n)R" + text("action_net.weight") + tensor + b"s."


def one_tensor(
    count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int, stored: int = 8
) -> bytes:
    content = np.zeros(stored, dtype=np.float32).tobytes()
    return torch_zip(tensor_pickle(count, size, stride, offset), {"data/0": content})


@hostile
def tensor_larger_than_its_storage(path: Path, members: Members, canary: Path) -> None:
    inner = one_tensor(8, (2**20, 2**20), (2**20, 1), 0)
    write(path, {**members, "policy.pth": inner})


@hostile
def storage_larger_than_its_bytes(path: Path, members: Members, canary: Path) -> None:
    inner = one_tensor(2**40, (2**20, 2**20), (2**20, 1), 0)
    write(path, {**members, "policy.pth": inner})


@hostile
def storage_smaller_than_its_bytes(path: Path, members: Members, canary: Path) -> None:
    inner = one_tensor(8, (2, 4), (4, 1), 0, stored=9)
    write(path, {**members, "policy.optimizer.pth": inner})


@hostile
def tensor_expanded_from_one_number(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": one_tensor(8, (2**20, 2**20), (0, 0), 0)})


@hostile
def tensor_of_negative_size(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": one_tensor(8, (-2, -2), (2, 1), 0)})


@hostile
def tensor_beyond_the_end(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": one_tensor(8, (2, 4), (4, 1), 1)})


@hostile
def tensor_without_bytes(path: Path, members: Members, canary: Path) -> None:
    inner = torch_zip(tensor_pickle(8, (2, 4), (4, 1), 0))
    write(path, {**members, "policy.pth": inner})


@hostile
def nan_in_the_critic(path: Path, members: Members, canary: Path) -> None:
    """Not part of the expert, and yet no sound file."""
    changed = weights(members)
    changed["value_net.bias"][0] = float("nan")
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def weights_near_the_end_of_float32(path: Path, members: Members, canary: Path) -> None:
    changed = {name: torch.full_like(tensor, 1e38) for name, tensor in weights(members).items()}
    write(path, {**members, "policy.pth": saved({**changed, "log_std": torch.zeros(2)})})


@hostile
def spread_whose_square_is_infinite(path: Path, members: Members, canary: Path) -> None:
    changed = weights(members)
    changed["log_std"][:] = 60
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def weights_of_an_unknown_name(path: Path, members: Members, canary: Path) -> None:
    name = "mlp_extractor.policy_net." + "9" * 5000 + ".weight"
    changed = {**weights(members), name: torch.zeros(2)}
    write(path, {**members, "policy.pth": saved(changed)})


@hostile
def tensors_over_one_storage(path: Path, members: Members, canary: Path) -> None:
    """A hundred tensors of 16 MB each, which are all the same 16 MB."""
    count = 4 * 2**20
    one = tensor_pickle(count, (count,), (1,), 0)
    head, body = one.split(text("action_net.weight"))
    names = [text(f"mlp_extractor.value_net.{index}.weight") for index in range(100)]
    pickled = head + b"".join(name + body.removesuffix(b".") for name in names) + b"."
    content = np.ones(count, dtype=np.float32).tobytes()
    write(path, {**members, "policy.pth": torch_zip(pickled, {"data/0": content})})


# Values that take for ever to hash, compare, or print

PROTOCOL = b"\x80\x02"
LAUGHS = b"X\1\0\0\0aq\0" + b"h\0\x86q\0" * 40
"""Pushes a tuple of two tuples of two tuples, and so on: 2^40 leaves."""
DEEP = b")" + b"\x85" * 95_000
"""Pushes a tuple within a tuple, 95,000 times."""


@hostile
def laughs_as_a_key(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": torch_zip(PROTOCOL + b"}" + LAUGHS + b"K\1s.")})


@hostile
def laughs_as_a_storage(path: Path, members: Members, canary: Path) -> None:
    pickled = PROTOCOL + b"(" + LAUGHS + b"K\1K\1K\1K\1tQ."
    write(path, {**members, "policy.pth": torch_zip(pickled)})


@hostile
def laughs_as_a_storages_name(path: Path, members: Members, canary: Path) -> None:
    identity = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + LAUGHS + text("cpu") + b"K\1tQ."
    write(path, {**members, "policy.pth": torch_zip(PROTOCOL + identity)})


@hostile
def laughs_as_a_size(path: Path, members: Members, canary: Path) -> None:
    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\1tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0(" + LAUGHS + b"t)\x89)tR."
    inner = torch_zip(PROTOCOL + tensor, {"data/0": bytes(4)})
    write(path, {**members, "policy.pth": inner})


@hostile
def deep_tuple_as_a_key(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "policy.pth": torch_zip(PROTOCOL + b"}" + DEEP + b"K\1s.")})


@hostile
def deep_tuple_as_a_storage(path: Path, members: Members, canary: Path) -> None:
    pickled = PROTOCOL + b"(" + DEEP + b"K\1K\1K\1K\1tQ."
    write(path, {**members, "policy.pth": torch_zip(pickled)})


def change_space(path: Path, members: Members, **changes: Any) -> None:
    write(path, change_data(members, lambda data: data["observation_space"].update(changes)))


@hostile
def a_shape_of_many_large_numbers(path: Path, members: Members, canary: Path) -> None:
    change_space(path, members, _shape=[2**63 - 1] * 150_000)


@hostile
def a_shape_of_few_large_numbers(path: Path, members: Members, canary: Path) -> None:
    change_space(path, members, _shape=[1e308] * 8)


@hostile
def a_shape_that_is_negative(path: Path, members: Members, canary: Path) -> None:
    change_space(path, members, _shape=[-5])


# Texts that are long, or that a terminal would obey

LONG = "x" * 2_000_000


@hostile
def a_long_field(path: Path, members: Members, canary: Path) -> None:
    write(path, change_data(members, lambda data: data.update({LONG: {":serialized:": "!"}})))


@hostile
def a_field_that_is_no_text(path: Path, members: Members, canary: Path) -> None:
    nested: Any = []
    for _ in range(400):
        nested = [nested]
    write(path, change_data(members, lambda data: data.update(a={":serialized:": nested})))


@hostile
def a_long_kind_of_space(path: Path, members: Members, canary: Path) -> None:
    change_space(path, members, **{":type:": f"<class 'spaces.{LONG}'>"})


@hostile
def a_long_activation(path: Path, members: Members, canary: Path) -> None:
    name = f"<class 'torch.nn.modules.{LONG}'>"
    write(
        path, change_data(members, lambda data: data.update(policy_kwargs={"activation_fn": name}))
    )


@hostile
def many_layers(path: Path, members: Members, canary: Path) -> None:
    settings = {"net_arch": [7] * 600_000}
    write(path, change_data(members, lambda data: data.update(policy_kwargs=settings)))


@hostile
def layers_of_many_digits(path: Path, members: Members, canary: Path) -> None:
    settings = {"net_arch": [int("9" * 4000)] * 500}
    write(path, change_data(members, lambda data: data.update(policy_kwargs=settings)))


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31m[/red]\x9b2J\ud800\u202e"


@hostile
def escapes_as_an_extractor(path: Path, members: Members, canary: Path) -> None:
    settings = {"features_extractor_class": ESCAPES}
    write(path, change_data(members, lambda data: data.update(policy_kwargs=settings)))


@hostile
def escapes_within_a_pickle(path: Path, members: Members, canary: Path) -> None:
    stream = base64.b64encode(b"cos\n\x1b[2J\x1b[31mred\n.").decode()
    write(path, change_data(members, lambda data: data.update(x={":serialized:": stream})))


@hostile
def escapes_as_a_version(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "_stable_baselines3_version": b"2.9\x1b[31m"})


@hostile
def version_in_no_encoding(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "_stable_baselines3_version": b"2.9.2\xff"})


@hostile
def a_long_member(path: Path, members: Members, canary: Path) -> None:
    write(path, {**members, "x" * 60_000: b""})


# No files at all


@hostile
def a_pipe(path: Path, members: Members, canary: Path) -> None:
    os.mkfifo(path)


@hostile
def a_socket(path: Path, members: Members, canary: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


@hostile
def an_endless_device(path: Path, members: Members, canary: Path) -> None:
    path.symlink_to("/dev/zero")


@hostile
def a_circle_of_links(path: Path, members: Members, canary: Path) -> None:
    path.symlink_to(path.name)


@hostile
def a_directory(path: Path, members: Members, canary: Path) -> None:
    path.mkdir()


def make_all(directory: Path, sound: Path, canary: Path) -> list[Path]:
    """One file per kind."""
    with zipfile.ZipFile(sound) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    paths = []
    for name, function in HOSTILE.items():
        path = directory / f"{name}.{'pt2' if name == 'exported_program' else 'zip'}"
        function(path, members, canary)
        paths.append(path)
    return paths
