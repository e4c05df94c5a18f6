"""Checkpoints that torch wrote are read to the bit; hostile and damaged ones give InputError.

`WRITTEN_BY_TORCH` holds two files of torch 2.13 (deflated, base 85), written by

    rows = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    torch.save(OrderedDict(transposed=rows.t(), corner=rows[1:, 1:], ..., ), file,
               _use_new_zipfile_serialization=False or True)

with the values of `EXPECTED`.
"""

import base64
import hashlib
import io
import pickle
import pickletools
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest

from keras_tl.backbones.torch_checkpoint import read_state_dict
from keras_tl.errors import InputError

WRITTEN_BY_TORCH = {
    "legacy": """
        c-nQ8>2}*h6vrjmaT;|YWiM-?EDlSsWm}b5n$U){MctyXh@}`so<u5&<i9iygmZdMzBDbo0USQ?v9G|lJ_IkpBXAB&
        XEb948Fh|z&&>7c_rJPx@9b$m>d{}ntp0iO#@%Zt7WcHvf7F=038m@ID~d8o6Pox*G}s|&7A7%Nw!uBh{)s|LBQhZI
        F!W+*cU+x0>F$UOvhaJ7p>`AXraQx&S&*a@Gq&c|*eZ-E8g|{Sb4C(xVb-pX$4t{_G7<49Q_1wJ>5!ykxDxtQhqB;6
        Z3=<Zi?dOZks&mnCaE7R4#qT$GJTMejd2(a2b9EFk`8tZ9kpiDo#hd*o!%BfUA&^NMu|t)g;U3jdyMVrciSzqWmtW)
        *D)+K@?ibZn8nw)LUCx#R_vOs?PJbX?b<%{9|9iNVTvOTj=BxLJ4s`b;#k0RgL+WOeJBvT`8B)FK#X^sVby&+EO?Jl
        JnG=FoHtCy8xg_df+u5N$(=>;PZT1(e%I)BdTrCflT1WqA}4sz>McCQ&C^2Q8H#5eJeTJ`@S;sTU&3Ett^$6t1UC(%
        +iKwj34c+-PjT~-fWJ)fii214=r=ZbmeDNX&*rIbn}x)}w1j1~@EViQn8fQ`Lc4`GxWt=6Vv*u42dzAQR!bJzC4qB+
        mlkki3f?x&E;=&)u8hCOjVa)#DJ%#5yllrg{q1u2yYwLS?@ZA<oxXv0CH*}~Kf}$Epf6Lr@8E1sXYjU(b0zvZZ<GSR
        GKKGU*vWn%@v9Plo|_8-f05!t2lfQtF>tAbzZf6DFHgaHt(Ju=5`I;}uW_>`;10#QgOBo)&3rHNQhZ#ZUt+yn;6Ith
        n_UZ^O1#VP3kw4K8O7%gzQ|+VjJ&N3UzQV|BvC=VK1DTIvEVCND+5_8U-O_nLEoV89Sn0i*&fkdkpK0jK%F-FCN>#L
        VW=&RQh1XGqBlc<yFu}dgUFrZ7o(SY+k~=q-+sV7RP4|ZKS<SNs)_u7k^BJg4@iY#MnN5n@8pY}+xXVOcl@rr&hO`n
        ##gHfUaRWjT2<fGt15b?sty}f^)p*_>W8WhZLTW)dR2A~S6!k<$fBx<@$*l7{I)b%|2>%~XEZsvw={om;{A6r`Td{C
        Y;;^zikJ9c3+-SkhgQt?miW{7?;E*KS!O@>?6K$9<@<(s*RB
    """,
    "zip": """
        c-pO)PjC}e9LHbMG;IT>e?VGL0mVP5mXd$Xru=Ejwyt0h+AUy2A#Rgx6WC_++q{&)Q)iR{H{gUG98ZpVchrl+aPs28
        8J+Rq!5I&ZCvT1y!S^TK?t7&K6W?^-PSf}O{J!ts@4a*;+YvyhyBlpNeP{p~PN7s@HV+gHY>ZYfS(+L~=Y+E2FBELc
        G7GqDS8AbCPSJGC;&i!yLx6^L@I`VV0>h3`sa5ToSp<Ip+XOqBuj8^+3*{YizFxM9d2Ci{wv%6uhoB=8$#oG`jkGit
        O$cyFNV9AM&+!jK(3$g*Hc<%XI>@_FtwUEfh@pEni?SVA|0?ukec6sx2;C@ACtEOV)!~U;kT$lRis?YOL?V>}rOr~Y
        #I(J$*#Hp{Z687SR-vD32QX~YVLQ_n?fSfB!joLva5l|8bgk`R)?zS7us#e!)RONi?4;E$j(iHk(>gqpBcqQ>hP42@
        1>iCAk&D~IaB<knanCkz&(Ufh$32hX1sz^w4(Au>IKfK-P-TM`OS#YpgC<~@K>ZkArcnP?c!feoICMXTQ5_C2kL3zZ
        LsURcl?=zl#TYILaqcnE@R+347{{eBC_1Eboupx%@y11qSMd4}9%Q^RIK+8}8@wa5n&7+)hDjZcG9JOjQlJXFxsvUy
        FPA9>Ou;k<zS;n4w0eyLk6}2j!|Q9nL>#gL@OWh%cY@&*c!T3kHgKnCHN$bU7<3)x*qqb~hGjT#THu|qD~m4h3<IX&
        EC;?xfWyNal*90r4(FJ!1<P2h!Q0}%*|z0!-eH_^IM3(xLStU@)Y!Y6M;6Dt4h6<Dm#X**6xVh_&QBL^6ilK<7#64+
        (OtC2H$;gO$`~%{a4FYAT2~FnSTZr$Pu3<|+iekoB{5J8D%_^suvw)xfd_Fg)O5ht*)R2Lu&l%7`shryt9y@faj!#G
        C4FW#&0vG5$IW1)3%0Xl;QX@b)JUe%)J~qrVifn)pTE3M2aP_P<8~os9oI-rdBZ9%R+h{P*3^WQ8Xv2qlGH%vGW<cu
        !~aMF{V3xam?wM1rpZ=Q5493^typD@Et7h<dgQmAbfpF#=^>0Jgj3-_R8tSOVSrOtGNhU$Kjc{<&nJ`A(csPBZw-+@
        3^j2yB07p`YUHsUee@wM-(+aK@8&-Jiw5X!67R4WFRrQSmPY_h(8#BIzg}rR|6!zxkrSFa(az+PayQd=mpV8*b?0-M
        <^xR}Oo|SYntHe`2mjFEBSyHt`Th%|DKYq%re@mg{<#M<K7l`IA%5zAi2vh#YT&{5*YCG5|4RGwUnK)i9jspa;A9K)
        pKf>l8P<oGhYMf+T5MtejkmM^c<;a6cP}T7KYB>yUUXE-G$i>QX>S5H?`JRCCPgEOtru+=KbkvNSpK>>8~myH`1PVg
        F4sK`l~#L^2+_zte7tz3`TE_B;_C+}>r%~h%H#xn&!FEP^5vqYj{Zj@u|zaAKBmOe@kCltVoEw4SE8wu5{)L($!Ic>
        jHSruQH8qf`l5;>#7Bg=^ii{}Pw$PQZ-aCBdyuU5ULXbq<-Gvf><%JByqADo;=$jE9&z)KIo^Z3U*O#KaNG-oEcc$e
        VL`qlh@`V$)_PA+QTv&!jmcW?87OLpx+HB})_PAbQF~j~CS<Mm@Da7!yCrQ>)_M;PQF}|)j>%eY&KI@)J(4yhYrWZ8
        >aVO-WUV*LO8pH<+O(|o=1Ea|N7jz7X&;_Ry=7pFyf!v0EN^NP#VZ@c8&;M#JBi|-J>pGvr8jBp7R35i)FhqFWP`zx
        wdB{af4#%f+YIpc-&^^c=;*&c(D}yp<@b`#AlD4A_Pp)C3V;H%
    """,
}
EXPECTED = {
    "transposed": np.array([[0, 3], [1, 4], [2, 5]], np.float32),
    "corner": np.array([[4, 5]], np.float32),
    "double": np.array([0.1], np.float64),
    "half": np.array([1.5], np.float16),
    "bfloat": np.array([1.5, -2.25], ml_dtypes.bfloat16),
    "int8": np.array([-3], np.int8),
    "uint8": np.array([255], np.uint8),
    "int16": np.array([-300], np.int16),
    "int32": np.array([70000], np.int32),
    "scalar": np.array(2**40, np.int64),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "parameter": np.ones(2, np.float32),
}


def written_by_torch(kind):
    return zlib.decompress(base64.b85decode("".join(WRITTEN_BY_TORCH[kind].split())))


def read(tmp_path, content, **options):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    return read_state_dict(path, **options)


# A small writer of pickles, operation by operation, so that a test can write any.


def op(value):
    """The operations that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def storage(kind=b"FloatStorage", key="0", length=6):
    return (
        b"(" + op("storage") + b"ctorch\n" + kind + b"\n" + op(key) + op("cpu") + op(length) + b"tQ"
    )


def tensor(offset=0, shape=(2, 3), strides=(3, 1), stored=None):
    operations = b"ctorch._utils\n_rebuild_tensor_v2\n(" + (stored or storage())
    return operations + op(offset) + op(shape) + op(strides) + b"\x89}tR"


def state(value, key=None):
    """A pickle of a dict with one entry."""
    return b"\x80\x02}" + (key or op("w")) + value + b"s."


def legacy_file(tensors, keys=("0",), length=6, values=6):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    raw = length.to_bytes(8, "little", signed=True) + np.arange(values, dtype="<f4").tobytes()
    return b"".join(head) + tensors + pickle.dumps(list(keys), 2) + raw


def zip_file(tensors, compression=zipfile.ZIP_STORED, raw=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", tensors)
        archive.writestr("archive/data/0", raw or np.arange(6, dtype="<f4").tobytes())
    return buffer.getvalue()


FORMATS = {"legacy": legacy_file, "zip": zip_file}


@pytest.mark.parametrize("kind", WRITTEN_BY_TORCH)
def test_what_torch_wrote_is_read(tmp_path, kind):
    arrays = read(tmp_path, written_by_torch(kind))
    assert list(arrays) == list(EXPECTED)
    for name, expected in EXPECTED.items():
        assert arrays[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(arrays[name], expected, err_msg=name, strict=True)
        assert not arrays[name].flags.writeable or expected.size == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_offset_and_strides_are_honoured(tmp_path, kind):
    content = FORMATS[kind](state(tensor(offset=1, shape=(2, 2), strides=(1, 3))))
    np.testing.assert_array_equal(read(tmp_path, content)["w"], [[1, 4], [2, 5]])


def test_sha256_is_checked_before_the_file_is_parsed(tmp_path):
    content = written_by_torch("legacy")
    right = hashlib.sha256(content).hexdigest()
    assert list(read(tmp_path, content, sha256=right.upper())) == list(EXPECTED)
    with pytest.raises(InputError, match=f"SHA-256 {right}, received .* with "):
        read(tmp_path, b"no checkpoint at all", sha256=right)


# --- Hostile files. ------------------------------------------------------------------------------


def command_payload(marker):
    """A pickle that runs a shell command when unpickled."""
    return b"\x80\x02cos\nsystem\n" + op(f"touch {marker}") + b"\x85R."


@pytest.mark.parametrize("kind", FORMATS)
def test_a_command_is_not_run(tmp_path, kind):
    marker = tmp_path / "ran"
    with pytest.raises(InputError, match=r"asks for os\.system"):
        read(tmp_path, FORMATS[kind](command_payload(marker)))
    assert not marker.exists()
    # The twin: the payload is a live one.
    pickle.loads(command_payload(marker))
    assert marker.exists()


def test_a_command_in_any_of_the_legacy_pickles_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    payload = command_payload(marker)
    whole = legacy_file(state(tensor()))
    starts = [0]
    for _ in range(5):
        stream = io.BytesIO(whole)
        stream.seek(starts[-1])
        for _ in pickletools.genops(stream):
            pass
        starts.append(stream.tell())
    for start in starts[:-1]:
        with pytest.raises(InputError):
            read(tmp_path, whole[:start] + payload + whole[start:])
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "__builtin__.exec",
        "numpy.load",
        "torch.load",
        "torch.storage._load_from_bytes",
        "torch._utils._rebuild_tensor_v2.__globals__",
        "collections.OrderedDict.__init__",
        "keras_tl.backbones.torch_checkpoint._CALLABLES",
    ],
)
def test_every_other_global_is_refused_by_name(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    named = f"c{module}\n{attribute}\n".encode()
    with pytest.raises(InputError, match=f"asks for {name},"):
        read(tmp_path, legacy_file(state(named)))
    # As deep inside a call of what is allowed.
    nested = b"ctorch._utils\n_rebuild_parameter\n(" + named + op(("id",)) + b"R" + b"tR"
    with pytest.raises(InputError, match=f"asks for {name},"):
        read(tmp_path, legacy_file(state(nested)))


@pytest.mark.parametrize(
    ("operations", "refused"),
    [
        (b"(ios\nsystem\n", "INST"),
        (b"(ccollections\nOrderedDict\no", "OBJ"),
        (b"ccollections\nOrderedDict\n)\x81", "NEWOBJ"),
        (b"\x8c\x02os\x8c\x06system\x93", "SHORT_BINUNICODE"),
        (op("os") + op("system") + b"\x93", "STACK_GLOBAL"),
        (b"\x82\x01", "EXT1"),
        (b"Pid\n", "PERSID"),
        (b"\x8b\x01\x00\x00\x00\x01", "LONG4"),
    ],
)
def test_other_pickle_operations_are_refused(tmp_path, operations, refused):
    with pytest.raises(InputError, match=f"the operation {refused},"):
        read(tmp_path, legacy_file(state(operations)))


def test_a_storage_type_or_a_string_cannot_be_called(tmp_path):
    for called in (b"ctorch\nFloatStorage\n", op("os.system"), storage(), tensor()):
        with pytest.raises(InputError, match="not callable"):
            read(tmp_path, legacy_file(state(called + op(("id",)) + b"R")))


def test_attributes_set_by_the_file_are_dropped(tmp_path):
    """BUILD would give the dict an `items` of the file's choice, or alter what is called."""
    renamed = b"\x80\x02ccollections\nOrderedDict\n)R" + op("w") + tensor() + b"s"
    renamed += op({"items": 1, "__class__": 2}) + b"b."
    np.testing.assert_array_equal(read(tmp_path, legacy_file(renamed))["w"].ravel(), range(6))
    on_function = b"ctorch._utils\n_rebuild_parameter\n" + op((None, {"__defaults__": (1,)}))
    call = on_function + b"b(" + tensor() + b"tR"
    np.testing.assert_array_equal(read(tmp_path, legacy_file(state(call)))["w"].ravel(), range(6))
    # Had `__defaults__` been set, a call without arguments would work.
    with pytest.raises(InputError, match="missing 1 required"):
        read(tmp_path, legacy_file(state(on_function + b"b)R")))


@pytest.mark.parametrize(
    "changed",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"strides": (4, 1)},
        {"strides": (-3, 1)},
        {"strides": (2**62, 2**62)},
        {"strides": (3,)},
        {"strides": (3, 0.5)},
        {"shape": (2, 4)},
        {"shape": (-2, 3)},
        {"shape": (2, 3, 2**40), "strides": (0, 0, 0)},
        {"shape": (2**32, 2**32), "strides": (0, 0)},
        {"shape": (1,) * 33, "strides": (1,) * 33},
        {"shape": (0, 2**70), "strides": (1, 1)},
        {"shape": [2, 3]},
        {"shape": "ab"},
        {"stored": op(0)},
        {"stored": storage(length=7)},
        {"stored": storage(length=-1)},
        {"stored": storage(key="1")},
        {"stored": storage(key=0)},
        {"stored": storage(kind=b"DoubleStorage")},
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_no_tensor_reaches_outside_its_storage(tmp_path, kind, changed):
    assert read(tmp_path, FORMATS[kind](state(tensor())))["w"].shape == (2, 3)
    with pytest.raises(InputError):
        read(tmp_path, FORMATS[kind](state(tensor(**changed))))


def test_two_types_for_one_storage_are_refused(tmp_path):
    other = tensor(shape=(3,), strides=(1,), stored=storage(kind=b"DoubleStorage", length=3))
    both = b"\x80\x02}" + op("a") + other + b"s" + op("b") + tensor() + b"s."
    for file in FORMATS.values():
        with pytest.raises(InputError, match="not of the type and size announced"):
            read(tmp_path, file(both))


def test_small_files_cannot_exhaust_the_interpreter(tmp_path):
    """The first two end the whole process with `pickle.Unpickler`, whatever it may import."""
    deep_tuple = b")" + b"\x85" * 300_000
    with pytest.raises(InputError, match="keys that are no strings"):
        read(tmp_path, legacy_file(state(op(1), key=deep_tuple)))
    far_memo = op(1) + b"r\xff\xff\xff\xff"
    with pytest.raises(InputError, match="no tensor"):
        read(tmp_path, legacy_file(state(far_memo)))
    wide_tuple = b")" + b"q\x00h\x00\x86" * 200
    with pytest.raises(InputError, match="keys that are no strings"):
        read(tmp_path, legacy_file(state(op(1), key=wide_tuple)))
    deep_key = b"\x80\x02]" + deep_tuple + b"a."
    whole = legacy_file(state(tensor()))
    with pytest.raises(InputError, match="list of storages is damaged"):
        read(tmp_path, whole.replace(pickle.dumps(["0"], 2), deep_key))


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path):
    bomb = zip_file(state(tensor()), zipfile.ZIP_DEFLATED, raw=bytes(10_000_000))
    with pytest.raises(InputError, match="unpacks to more than its own size"):
        read(tmp_path, bomb)


# --- Damaged files, and files that are something else. -------------------------------------------


@pytest.mark.parametrize("kind", WRITTEN_BY_TORCH)
def test_a_truncated_file_is_refused(tmp_path, kind):
    content = written_by_torch(kind)
    for length in [*range(0, len(content), 23), len(content) - 1]:
        with pytest.raises(InputError):
            read(tmp_path, content[:length])


@pytest.mark.parametrize("kind", WRITTEN_BY_TORCH)
# pickletools itself warns of odd escapes in a damaged string.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pickletools")
def test_flipped_bits_give_arrays_or_an_input_error(tmp_path, kind):
    content = np.frombuffer(written_by_torch(kind), np.uint8)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        damaged = content.copy()
        places = generator.integers(0, len(content), generator.integers(1, 5))
        damaged[places] ^= generator.integers(1, 256, len(places), np.uint8)
        try:
            arrays = read(tmp_path, damaged.tobytes())
            assert sum(array.nbytes for array in arrays.values()) < 10 * len(content)
        except InputError:
            refused += 1
    assert 100 < refused < 600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin like a checkpoint"),
        (b"{}", "does not begin like a checkpoint"),
        (pickle.dumps([1, 2], 2), "does not begin like a checkpoint"),
        (pickle.dumps({"w": [1.0]}, 4), "the operation FRAME"),
        (legacy_file(pickle.dumps([], 2)), "holds no dict"),
        (legacy_file(pickle.dumps({"epoch": 3}, 2)), "entry 'epoch' is no tensor"),
        (legacy_file(state(tensor()), keys=("1",)), "list of storages does not fit"),
        (legacy_file(state(tensor()), length=5), "another size than announced"),
        (legacy_file(state(tensor()), values=5), "checkpoint.pth"),
        (b"PK\x03\x04 and nothing more", "not a zip file"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, reason):
    with pytest.raises(InputError, match=reason) as caught:
        read(tmp_path, content)
    assert "torch.save(model.state_dict(), path)" in str(caught.value)


def test_a_big_endian_file_is_refused(tmp_path):
    content = legacy_file(state(tensor()))
    little = pickle.dumps({"little_endian": True}, 2)
    big = pickle.dumps({"little_endian": False}, 2)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    tail = content[content.index(state(tensor())) :]
    assert "w" in read(tmp_path, magic + little + tail)
    with pytest.raises(InputError, match="little-endian"):
        read(tmp_path, magic + big + tail)


def test_a_path_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_state_dict(path)
